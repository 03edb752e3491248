// Writes an initialised model, an input and its logits, for tools/check_torchvision.py.
// usage: write_torchvision_case MODEL IMAGE_SIDE FOLDER
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "nn/model.h"
#include "train/checkpoint.h"

int main(int argc, char** argv) {
  using namespace tempo;
  if (argc != 4) {
    fmt::print(stderr, "usage: write_torchvision_case MODEL IMAGE_SIDE FOLDER\n");
    return 2;
  }
  const int64_t side = std::atoll(argv[2]);
  const std::filesystem::path folder = argv[3];
  const torch::NoGradGuard no_grad;
  const auto model = nn::make_model({.name = argv[1], .classes = 1000, .image_side = side, .image_channels = 3});
  Csprng random(key_from_seed_insecure(3));
  model->initialise(random);
  torch::manual_seed(3);
  // A pass in training mode gives the running statistics values of their own.
  model->train();
  model->forward(torch::randn({4, 3, side, side}));
  model->eval();
  const torch::Tensor input = torch::randn({2, 3, side, side});
  train::write_plain_safetensors(train::state_of(*model), {{"format", "pt"}}, folder / "model.safetensors");
  train::write_plain_safetensors({{"input", input}, {"logits", model->forward(input)}}, {},
                                 folder / "logits.safetensors");
  return 0;
}
