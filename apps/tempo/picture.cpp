// tempo picture: one image, and what a worker holds in its place.
#include <fmt/format.h>
#include <png.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/file.h"
#include "commands.h"
#include "common/program.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"
#include "tempo/run.h"

namespace tempo::apps {
namespace {

constexpr int kPanelPixels = 384, kGapPixels = 16;
constexpr int kTerminalPixels = 32;  // of a panel in the terminal, each way

struct Rgb {
  uint8_t red = 255, green = 255, blue = 255;
};

class Picture {
 public:
  Picture(int width, int height) : width_(width), height_(height), pixels_(static_cast<size_t>(width) * height) {}
  [[nodiscard]] int width() const { return width_; }
  [[nodiscard]] int height() const { return height_; }
  Rgb& at(int x, int y) { return pixels_[static_cast<size_t>(y) * width_ + x]; }
  [[nodiscard]] const Rgb& at(int x, int y) const { return pixels_[static_cast<size_t>(y) * width_ + x]; }
  [[nodiscard]] const Rgb* data() const { return pixels_.data(); }

 private:
  int width_, height_;
  std::vector<Rgb> pixels_;
};

Picture picture_of_image(const WorkerView& view, int pixels) {
  Picture picture(pixels, pixels);
  const int64_t side = view.image_side, plane = side * side;
  for (int y = 0; y < pixels; ++y)
    for (int x = 0; x < pixels; ++x) {
      const auto at = static_cast<size_t>(y * side / pixels * side + x * side / pixels);
      const auto value = [&](int64_t c) { return view.image[at + std::min(c, view.image_channels - 1) * plane]; };
      picture.at(x, y) = {value(0), value(1), value(2)};
    }
  return picture;
}

/// Maps a value to a grey level: two and a half standard deviations around the mean.
class GreyScale {
 public:
  explicit GreyScale(std::span<const float> values) {
    double sum = 0, squares = 0;
    for (const double v : values) sum += v, squares += v * v;
    const auto count = static_cast<double>(values.size());
    mean_ = sum / count;
    deviation_ = std::sqrt(std::max(squares / count - mean_ * mean_, 1e-30));
  }
  [[nodiscard]] Rgb operator()(float value) const {
    const double level = 127.5 + 51 * (value - mean_) / deviation_;
    const auto grey = static_cast<uint8_t>(std::clamp(level, 0.0, 255.0));
    return {grey, grey, grey};
  }

 private:
  double mean_ = 0, deviation_ = 1;
};

/// The first channels of an operand, up to sixteen, as a square of grey maps. @param channels shown, a square number
Picture picture_of_maps(std::span<const float> maps, int64_t side, int64_t channels, int pixels) {
  const auto across = static_cast<int>(std::sqrt(static_cast<double>(channels)));
  const int cell = pixels / across;
  const GreyScale grey(maps);
  Picture picture(cell * across, cell * across);
  for (int y = 0; y < picture.height(); ++y)
    for (int x = 0; x < picture.width(); ++x) {
      const int64_t channel = y / cell * across + x / cell;
      const int64_t row = y % cell * side / cell, column = x % cell * side / cell;
      picture.at(x, y) = grey(maps[static_cast<size_t>((channel * side + row) * side + column)]);
    }
  return picture;
}

std::vector<Picture> panels_of(const WorkerView& view, int pixels, int64_t most_channels) {
  int64_t channels = 1;
  while ((channels + 1) * (channels + 1) <= std::min(view.channels, most_channels)) ++channels;
  channels *= channels;
  std::vector<Picture> panels{picture_of_image(view, pixels)};
  panels.push_back(picture_of_maps(view.plain, view.side, channels, pixels));
  panels.push_back(picture_of_maps(view.blinded, view.side, channels, pixels));
  return panels;
}

Picture side_by_side(const std::vector<Picture>& panels, int gap) {
  int width = gap * (static_cast<int>(panels.size()) - 1), height = 0;
  for (const auto& panel : panels) width += panel.width(), height = std::max(height, panel.height());
  Picture all(width, height);
  int left = 0;
  for (const auto& panel : panels) {
    for (int y = 0; y < panel.height(); ++y)
      for (int x = 0; x < panel.width(); ++x) all.at(left + x, y) = panel.at(x, y);
    left += panel.width() + gap;
  }
  return all;
}

void write_png(const Picture& picture, const std::filesystem::path& file) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.width());
  image.height = static_cast<png_uint_32>(picture.height());
  image.format = PNG_FORMAT_RGB;
  static_assert(sizeof(Rgb) == 3);
  png_alloc_size_t bytes = 0;
  const auto encode = [&](void* memory) {
    if (png_image_write_to_memory(&image, memory, &bytes, 0, picture.data(), 0, nullptr) == 0)
      throw RunError(fmt::format("{}: could not be encoded: {}", file.string(), image.message));
  };
  encode(nullptr);
  std::string text(bytes, '\0');
  encode(text.data());
  AtomicFile out(file, 0600);  // it shows an image that may be secret
  out.write(text);
  out.commit();
}

/// Whether standard output is a terminal of that many columns that shows any colour.
bool shows_pictures(int columns) {
  const char* colours = std::getenv("COLORTERM");
  if (colours == nullptr || isatty(STDOUT_FILENO) == 0) return false;
  const std::string_view kind = colours;
  winsize size{};
  return (kind == "truecolor" || kind == "24bit") && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
         size.ws_col >= columns;
}

/// Two pixels a character: the upper half in one colour, the lower in another.
std::string for_terminal(const Picture& picture) {
  std::string text;
  for (int y = 0; y + 1 < picture.height(); y += 2) {
    for (int x = 0; x < picture.width(); ++x) {
      const Rgb &a = picture.at(x, y), &b = picture.at(x, y + 1);
      text +=
          fmt::format("\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m\u2580", a.red, a.green, a.blue, b.red, b.green, b.blue);
    }
    text += "\x1b[0m\n";
  }
  return text;
}

struct PictureFlags {
  std::string run, key, data_key, out;
  int64_t image = 0;
};

void draw(const PictureFlags& flags) {
  const WorkerView view = run_worker_view(flags.run, flags.image, flags.key, flags.data_key);
  write_png(side_by_side(panels_of(view, kPanelPixels, 16), kGapPixels), flags.out);
  const Picture small = side_by_side(panels_of(view, kTerminalPixels, 1), 2);
  if (shows_pictures(small.width())) observe::print_text(for_terminal(small));
  observe::print(
      "{}: test image {}; what a worker holds of it without protection; what it holds under the protection of this "
      "run\n",
      flags.out, flags.image);
}

}  // namespace

void add_picture(CLI::App& app) {
  auto* command = app.add_subcommand("picture", "Draw one image of a run, and what a worker holds in its place");
  auto flags = std::make_shared<PictureFlags>();
  command->add_option("--run", flags->run, "run directory")->required()->type_name("DIR");
  command->add_option("--out", flags->out, "PNG file to make; it shows the image in plain")
      ->required()
      ->type_name("FILE");
  command->add_option("--image", flags->image, "number of the test image [0]")->check(Number::whole(0, 1LL << 40));
  command->add_option("--key", flags->key, "sealing key file; default: ~/.config/tempo/checkpoint.key")
      ->type_name("FILE");
  command->add_option("--data-key", flags->data_key, "key file that opens sealed data")->type_name("FILE");
  command->callback([flags] { draw(*flags); });
}

}  // namespace tempo::apps
