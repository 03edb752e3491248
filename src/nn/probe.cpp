#include "nn/probe.h"

namespace tempo::nn {
namespace {
thread_local std::function<void(const LayerCall&)> t_observer;
}

ScopedProbe::ScopedProbe(std::function<void(const LayerCall&)> observer) { t_observer = std::move(observer); }
ScopedProbe::~ScopedProbe() { t_observer = nullptr; }

std::map<const torch::nn::Module*, std::string> module_names(const torch::nn::Module& root) {
  std::map<const torch::nn::Module*, std::string> names;
  for (const auto& item : root.named_modules("", false)) names[item.value().get()] = item.key();
  return names;
}

bool is_probed() { return static_cast<bool>(t_observer); }

void report_call(const torch::nn::Module& module, std::string_view part, const torch::Tensor& input,
                 const torch::Tensor& operand, const torch::Tensor& output) {
  if (t_observer) t_observer({module, part, input, operand, output});
}

}  // namespace tempo::nn
