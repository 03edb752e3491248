#include "observe/log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>
#include <system_error>
#include <type_traits>

#include "tempo/error.h"

namespace tempo::observe {
namespace {

using Json = nlohmann::ordered_json;

std::string now() {
  const auto time = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto second = std::chrono::floor<std::chrono::seconds>(time);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(second)),
                     (time - second).count());
}

/// Never ends within a character: half of one would be replaced by another.
std::string_view cut(std::string_view text) {
  if (text.size() <= kMaxTextBytes) return text;
  size_t end = kMaxTextBytes;
  while (end + 4 > kMaxTextBytes && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end);
}

Json to_json(const Field::Value& value) {
  const auto visitor = [](const auto& of_type) -> Json {
    if constexpr (std::is_same_v<std::decay_t<decltype(of_type)>, std::string_view>)
      return std::string(cut(of_type));
    else
      return of_type;
  };
  return std::visit(visitor, value);
}

std::string to_line(const Json& object) {
  constexpr bool kAsciiOnly = true;  // nothing that a terminal would act upon
  return object.dump(-1, ' ', kAsciiOnly, Json::error_handler_t::replace) + '\n';
}

std::string format_line(std::string_view level, std::string_view event, Log::Fields fields) {
  const Json head = {{"time", now()}, {"level", std::string(level)}, {"event", std::string(cut(event))}};
  Json object = head;
  for (const Field& field : fields) object.emplace(std::string(field.name()), to_json(field.value()));
  std::string line = to_line(object);
  if (line.size() <= kMaxLineBytes) return line;
  object = head;
  object.emplace("fields_left_out", fields.size());
  return to_line(object);
}

}  // namespace

Log::Log() = default;

Log::Log(const std::string& file) : descriptor_(STDERR_FILENO) {
  if (file == "-") return;
  // O_NONBLOCK: a pipe without a reader is refused instead of being waited for, and a slow reader loses lines instead
  // of holding up the work.
  descriptor_ = open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
  if (descriptor_ < 0 && errno == ENXIO)
    throw InputError(
        fmt::format("log: \"{}\" is a pipe that nobody reads, or a socket; expected a reader first", file));
  if (descriptor_ < 0)
    throw InputError(
        fmt::format("log: cannot open \"{}\" to append to it: {}", file, std::generic_category().message(errno)));
  is_owned_ = true;
}

Log::~Log() {
  if (is_owned_) close(descriptor_);
}

void Log::write(std::string_view level, std::string_view event, Fields fields) noexcept try {
  if (!is_enabled()) return;
  const std::string line = format_line(level, event, fields);
  while (::write(descriptor_, line.data(), line.size()) < 0 && errno == EINTR) {
  }
} catch (const std::exception&) {
  // No memory for a line: the work goes on without it.
}

}  // namespace tempo::observe
