#include "audit/view_files.h"

#include <fmt/format.h>

#include <list>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/folder_lock.h"
#include "base/path.h"
#include "train/formats/safetensors.h"

namespace tempo::audit {

namespace fs = std::filesystem;

namespace {

/// Tensors of one file, borrowed but for those made here.
class TensorFile {
 public:
  void add(const std::string& name, const Operand& operand) {
    if (operand.empty()) return;
    entries_.push_back({.name = name,
                        .dtype = "F32",
                        .shape = {operand.rows, operand.height, operand.width, operand.channels},
                        .data = std::as_bytes(std::span(operand.values))});
  }
  void add(const std::string& name, const Matrix& matrix) {
    if (matrix.size() == 0) return;
    entries_.push_back({.name = name,
                        .dtype = "F64",
                        .shape = {matrix.rows(), matrix.cols()},
                        .data = std::as_bytes(std::span(matrix.data(), static_cast<size_t>(matrix.size())))});
  }
  void add(const std::string& name, const std::vector<int>& labels) {
    if (labels.empty()) return;
    kept_.emplace_back(labels.begin(), labels.end());
    entries_.push_back({.name = name,
                        .dtype = "I64",
                        .shape = {static_cast<int64_t>(labels.size())},
                        .data = std::as_bytes(std::span(kept_.back()))});
  }
  void write(const fs::path& path, const train::SafetensorsMetadata& metadata) const {
    AtomicFile file(path);
    train::write_safetensors([&](std::span<const std::byte> bytes) { file.write(bytes); }, entries_, metadata);
    file.commit();
  }

 private:
  std::vector<train::TensorEntry> entries_;
  std::list<std::vector<int64_t>> kept_;
};

void write_events(const std::vector<Event>& events, const fs::path& path) {
  AtomicFile file(path);
  std::string lines;
  for (const Event& event : events) {
    nlohmann::json line = {{"seconds", event.seconds}, {"step", event.step}, {"what", event.what}};
    if (!event.operands.empty()) line["operands"] = event.operands;
    if (event.what != "put" && event.what != "free") line["operation"] = event.operation;
    if (!event.spec.shape.empty()) {
      line["type"] = contract::element_name(event.spec.type);
      line["shape"] = event.spec.shape;
    }
    lines += line.dump() + "\n";
  }
  file.write(lines);
  file.commit();
}

}  // namespace

void write_recording(const RecordedRun& run, const fs::path& folder) {
  make_folders(folder);
  const FolderLock lock(folder);
  write_events(run.events, folder / "events.jsonl");
  for (const LayerCase& layer : run.cases) {
    TensorFile view, truth;
    for (size_t i = 0; i < layer.view.size(); ++i) {
      const StepView& seen = layer.view[i];
      const StepTruth& plain = layer.truth[i];
      const std::string step = fmt::format("step{}.", seen.step);
      const std::pair<const char*, const Operand*> seen_operands[] = {{"x", &seen.x},
                                                                      {"w", &seen.w},
                                                                      {"y", &seen.y},
                                                                      {"dy", &seen.dy},
                                                                      {"dx", &seen.dx},
                                                                      {"dw", &seen.dw},
                                                                      {"dy_for_dw", &seen.dy_for_dw},
                                                                      {"x_again", &seen.x_again},
                                                                      {"w_again", &seen.w_again}};
      for (const auto& [name, operand] : seen_operands) view.add(step + name, *operand);
      view.add(step + "x_products", seen.x_products);
      view.add(step + "dy_products", seen.dy_products);
      const std::pair<const char*, const Operand*> plain_operands[] = {
          {"x", &plain.x}, {"w", &plain.w}, {"y", &plain.y}, {"dy", &plain.dy}, {"dx", &plain.dx}, {"dw", &plain.dw}};
      for (const auto& [name, operand] : plain_operands) truth.add(step + name, *operand);
      truth.add(step + "inner", plain.inner);
      truth.add(step + "right", plain.right);
      truth.add(step + "inner_again", plain.inner_again);
      truth.add(step + "right_again", plain.right_again);
      truth.add(step + "labels", plain.labels);
    }
    const train::SafetensorsMetadata metadata = {{"layer", layer.layer},
                                                 {"stride", fmt::format("{}", layer.stride)},
                                                 {"tiles_y", fmt::format("{}", layer.tiles_y)},
                                                 {"tiles_x", fmt::format("{}", layer.tiles_x)}};
    view.write(folder / (layer.layer + ".view.safetensors"), metadata);
    truth.write(folder / (layer.layer + ".truth.safetensors"), metadata);
  }
}

}  // namespace tempo::audit
