#include "train/checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cstring>

#include "base/file.h"
#include "seal/sealed_file.h"
#include "tempo/error.h"
#include "train/formats/safetensors.h"

namespace tempo::train {
namespace {

constexpr const char* kKind = "checkpoint";
constexpr const char* kVersion = "1";
constexpr size_t kMaxBytes = size_t{64} << 30;

struct Dtype {
  const char* name;
  at::ScalarType type;
};
constexpr Dtype kDtypes[] = {{"F32", at::kFloat},     {"F64", at::kDouble}, {"I64", at::kLong}, {"U8", at::kByte},
                             {"BF16", at::kBFloat16}, {"F16", at::kHalf},   {"BOOL", at::kBool}};

/// Row-major copies of tensors, and the entries that show them.
class Entries {
 public:
  void add(const std::string& name, const torch::Tensor& tensor) {
    const torch::Tensor dense = tensor.detach().contiguous();
    for (const Dtype& dtype : kDtypes)
      if (dtype.type == dense.scalar_type()) {
        entries.push_back({name, dtype.name, dense.sizes().vec(),
                           std::span(static_cast<const std::byte*>(dense.data_ptr()), dense.nbytes())});
        kept_.push_back(dense);
        return;
      }
    throw RunError(fmt::format("checkpoint: tensor {} has an element type that cannot be stored", name));
  }

  std::vector<TensorEntry> entries;

 private:
  std::vector<torch::Tensor> kept_;
};

torch::Tensor to_tensor(const TensorEntry& entry) {
  for (const Dtype& dtype : kDtypes)
    if (entry.dtype == dtype.name) {
      torch::Tensor tensor = torch::empty(entry.shape, dtype.type);
      if (!entry.data.empty()) std::memcpy(tensor.data_ptr(), entry.data.data(), entry.data.size());
      return tensor;
    }
  throw InputError(fmt::format("tensor {}: element type {} is not known", entry.name, entry.dtype));
}

torch::Tensor to_tensor(const SecretKey& secret) {
  torch::Tensor bytes = torch::empty({static_cast<int64_t>(SecretKey::kBytes)}, torch::kUInt8);
  std::memcpy(bytes.data_ptr(), secret.data(), SecretKey::kBytes);
  return bytes;
}

/// A tensor of key bytes, wiped when it goes, whatever happens in between.
class SecretTensor {
 public:
  explicit SecretTensor(const SecretKey& secret) : tensor(to_tensor(secret)) {}
  ~SecretTensor() { sodium_memzero(tensor.data_ptr(), SecretKey::kBytes); }
  SecretTensor(const SecretTensor&) = delete;
  SecretTensor& operator=(const SecretTensor&) = delete;

  torch::Tensor tensor;
};

class MetadataReader {
 public:
  MetadataReader(const SafetensorsMetadata& metadata, std::string source)
      : metadata_(metadata), source_(std::move(source)) {}
  [[nodiscard]] std::string text(const std::string& name) const {
    const auto found = metadata_.find(name);
    if (found == metadata_.end())
      throw InputError(fmt::format("{}: has no \"{}\", expected a checkpoint", source_, name));
    return found->second;
  }
  [[nodiscard]] int64_t number(const std::string& name) const {
    const std::string value = text(name);
    int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size())
      throw InputError(fmt::format("{}: \"{}\" is not a number", source_, name));
    return number;
  }

 private:
  const SafetensorsMetadata& metadata_;
  std::string source_;
};

SecretKey take_secret(std::map<std::string, torch::Tensor>& tensors, const std::string& name,
                      const std::string& source) {
  const auto found = tensors.find(name);
  if (found == tensors.end() || found->second.scalar_type() != torch::kUInt8 ||
      found->second.numel() != static_cast<int64_t>(SecretKey::kBytes))
    throw InputError(fmt::format("{}: has no key \"{}\", expected a checkpoint", source, name));
  SecretKey secret;
  std::memcpy(secret.writable().data(), found->second.data_ptr(), SecretKey::kBytes);
  sodium_memzero(found->second.data_ptr(), SecretKey::kBytes);
  tensors.erase(found);
  return secret;
}

constexpr std::string_view kNumberPrefix = "number.";

}  // namespace

std::filesystem::path checkpoint_path(const std::filesystem::path& run) { return run / "checkpoint.tempo"; }

void save_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& file, const SecretKey& key) {
  SafetensorsMetadata metadata{{"version", kVersion},
                               {"model.name", checkpoint.model.name},
                               {"model.classes", fmt::format("{}", checkpoint.model.classes)},
                               {"model.image_side", fmt::format("{}", checkpoint.model.image_side)},
                               {"model.image_channels", fmt::format("{}", checkpoint.model.image_channels)},
                               {"step", fmt::format("{}", checkpoint.step)},
                               {"config", checkpoint.config},
                               {"class_names", checkpoint.class_names}};
  for (const auto& [name, number] : checkpoint.numbers)
    metadata[std::string(kNumberPrefix) + name] = fmt::format("{}", number);
  Entries entries;
  for (const auto& [name, tensor] : checkpoint.tensors) entries.add(name, tensor);
  const SecretTensor root(checkpoint.root), master(checkpoint.master);
  entries.add("secret.root", root.tensor);
  entries.add("secret.master", master.tensor);
  seal::SealedWriter writer(file, key, kKind);
  write_safetensors([&](std::span<const std::byte> bytes) { writer.write(bytes); }, entries.entries, metadata);
  writer.commit();
}

Checkpoint load_checkpoint(const std::filesystem::path& file, const SecretKey& key) {
  const std::string source = file.string();
  const SafetensorsFile parsed = parse_safetensors(seal::unseal_file(file, key, kKind, kMaxBytes), source);
  const MetadataReader metadata(parsed.metadata(), source);
  if (const std::string version = metadata.text("version"); version != kVersion)
    throw InputError(fmt::format("{}: checkpoint version {}, expected {}", source, version, kVersion));
  Checkpoint checkpoint;
  checkpoint.model = {.name = metadata.text("model.name"),
                      .classes = metadata.number("model.classes"),
                      .image_side = metadata.number("model.image_side"),
                      .image_channels = metadata.number("model.image_channels")};
  checkpoint.step = metadata.number("step");
  checkpoint.config = metadata.text("config");
  checkpoint.class_names = metadata.text("class_names");
  for (const auto& item : parsed.metadata())
    if (item.first.starts_with(kNumberPrefix))
      checkpoint.numbers[item.first.substr(kNumberPrefix.size())] = metadata.number(item.first);
  for (const TensorEntry& entry : parsed.entries()) checkpoint.tensors[entry.name] = to_tensor(entry);
  checkpoint.root = take_secret(checkpoint.tensors, "secret.root", source);
  checkpoint.master = take_secret(checkpoint.tensors, "secret.master", source);
  return checkpoint;
}

std::map<std::string, torch::Tensor> state_of(const nn::Model& model) {
  std::map<std::string, torch::Tensor> state;
  for (const auto& item : model.named_parameters()) state[item.key()] = item.value();
  for (const auto& item : model.named_buffers()) state[item.key()] = item.value();
  return state;
}

void load_state(nn::Model& model, const std::map<std::string, torch::Tensor>& tensors, const std::string& prefix,
                const std::string& source) {
  auto state = state_of(model);
  for (const auto& [name, target] : state) {
    const auto found = tensors.find(prefix + name);
    if (found == tensors.end()) throw InputError(fmt::format("{}: has no tensor \"{}\"", source, name));
    if (found->second.sizes() != target.sizes())
      throw InputError(fmt::format("{}: tensor {} is [{}], expected [{}]", source, name,
                                   fmt::join(found->second.sizes(), ", "), fmt::join(target.sizes(), ", ")));
    if (found->second.is_floating_point() != target.is_floating_point())
      throw InputError(fmt::format("{}: tensor {} is {}, expected {}", source, name,
                                   c10::toString(found->second.scalar_type()),
                                   target.is_floating_point() ? "floating-point numbers" : "whole numbers"));
  }
  for (const auto& item : tensors)
    if (item.first.starts_with(prefix) && !state.contains(item.first.substr(prefix.size())))
      throw InputError(fmt::format("{}: tensor \"{}\" is not one of the model's", source, item.first));
  const torch::NoGradGuard no_grad;
  for (auto& [name, target] : state) target.copy_(tensors.at(prefix + name));
}

void load_weights(nn::Model& model, std::map<std::string, torch::Tensor> tensors, const std::string& source) {
  constexpr std::string_view kBatches = "num_batches_tracked";
  for (const auto& item : model.named_buffers())
    if (item.key().ends_with(kBatches)) tensors.try_emplace(item.key(), torch::zeros_like(item.value()));
  load_state(model, tensors, "", source);
}

void restore_model(nn::Model& model, const Checkpoint& checkpoint, const std::string& source) {
  load_state(model, checkpoint.tensors, "model.", source);
}

void write_plain_safetensors(const std::map<std::string, torch::Tensor>& tensors,
                             const std::map<std::string, std::string>& metadata, const std::filesystem::path& file) {
  Entries entries;
  for (const auto& [name, tensor] : tensors) entries.add(name, tensor);
  AtomicFile out(file, 0600);  // plain weights: for the owner alone
  write_safetensors([&](std::span<const std::byte> bytes) { out.write(bytes); }, entries.entries, metadata);
  out.commit();
}

std::map<std::string, torch::Tensor> read_plain_safetensors(const std::filesystem::path& file) {
  const SafetensorsFile parsed = parse_safetensors(read_file_or_pipe(file, kMaxBytes), file.string());
  std::map<std::string, torch::Tensor> tensors;
  for (const TensorEntry& entry : parsed.entries()) tensors[entry.name] = to_tensor(entry);
  return tensors;
}

}  // namespace tempo::train
