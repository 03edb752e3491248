#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nn/model.h"
#include "nn/models/factories.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace {

struct Entry {
  std::string_view name;
  std::shared_ptr<Model> (*make)(const ModelOptions&);
};

constexpr std::array<Entry, 10> kZoo = {{
    {"mlp", make_mlp},
    {"lenet", make_lenet},
    {"resnet20", make_resnet},
    {"resnet18", make_resnet},
    {"resnet34", make_resnet},
    {"resnet50", make_resnet},
    {"vgg16", make_vgg},
    {"vit_tiny", make_vit},
    {"vit_small", make_vit},
    {"vit_base", make_vit},
}};

void check_positive(std::string_view what, int64_t value) {
  if (value < 1) throw InputError(fmt::format("model: got {} = {}, expected at least 1", what, value));
}

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kZoo) names.emplace_back(entry.name);
  return names;
}

std::shared_ptr<Model> make_model(const ModelOptions& options) {
  const auto* entry = std::ranges::find(kZoo, options.name, &Entry::name);
  if (entry == kZoo.end())
    throw InputError(
        fmt::format("model: got \"{}\", expected one of {}", options.name, fmt::join(model_names(), ", ")));
  check_positive("classes", options.classes);
  check_positive("image_side", options.image_side);
  check_positive("image_channels", options.image_channels);

  std::shared_ptr<Model> model = entry->make(options);
  for (torch::Tensor& parameter : model->parameters())
    if (parameter.dim() == 4) parameter.set_data(parameter.detach().contiguous(torch::MemoryFormat::ChannelsLast));
  return model;
}

torch::Tensor model_input(const torch::Tensor& x, const ModelOptions& options) {
  const int64_t side = options.image_side;
  if (x.dim() != 4 || x.size(1) != options.image_channels || x.size(2) != side || x.size(3) != side)
    throw InputError(fmt::format("model: {} got an input of [{}], expected [N, {}, {}, {}]", options.name,
                                 fmt::join(x.sizes(), ", "), options.image_channels, side, side));
  return x.contiguous(torch::MemoryFormat::ChannelsLast);
}

}  // namespace tempo::nn
