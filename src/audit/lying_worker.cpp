#include "audit/lying_worker.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

namespace tempo::audit {

using contract::Buffer;
using contract::ElementType;
using contract::Operation;

namespace {

std::future<Buffer> ready(Buffer reply) {
  std::promise<Buffer> promise;
  promise.set_value(std::move(reply));
  return promise.get_future();
}

double load(const Buffer& buffer, int64_t index) {
  const std::byte* const at = buffer.data() + static_cast<size_t>(index) * element_bytes(buffer.spec().type);
  switch (buffer.spec().type) {
    case ElementType::kFloat64: {
      double value = 0;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    case ElementType::kFloat32: {
      float value = 0;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    case ElementType::kBFloat16: {
      uint16_t upper = 0;
      std::memcpy(&upper, at, sizeof upper);
      const uint32_t bits = uint32_t{upper} << 16;
      float value = 0;
      std::memcpy(&value, &bits, sizeof value);
      return value;
    }
  }
  return 0;
}

void store(const Buffer& buffer, int64_t index, double wide) {
  std::byte* const at = buffer.data() + static_cast<size_t>(index) * element_bytes(buffer.spec().type);
  const auto narrow = static_cast<float>(wide);
  if (buffer.spec().type == ElementType::kFloat64) return void(std::memcpy(at, &wide, sizeof wide));
  if (buffer.spec().type == ElementType::kFloat32) return void(std::memcpy(at, &narrow, sizeof narrow));
  uint32_t bits = 0;
  std::memcpy(&bits, &narrow, sizeof bits);
  const auto upper = static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
  std::memcpy(at, &upper, sizeof upper);
}

bool is_product(const Operation& operation) {
  return std::holds_alternative<contract::Forward>(operation) ||
         std::holds_alternative<contract::InputGradient>(operation) ||
         std::holds_alternative<contract::WeightGradient>(operation);
}

bool keeps_its_result(const Operation& operation) {
  const auto* gradient = std::get_if<contract::WeightGradient>(&operation);
  return gradient != nullptr && gradient->keep_as != 0;
}

}  // namespace

std::string to_string(Lie lie, double size) {
  const std::string percent = fmt::format("{:g}%", 100 * size);
  switch (lie) {
    case Lie::kElement:
      return "one element off by " + percent + " of its row's norm";
    case Lie::kSample:
      return "one row scaled by " + fmt::format("{:g}", 1 + size);
    case Lie::kReplay:
      return "last step's reply";
    case Lie::kSwap:
      return "another layer's reply";
    case Lie::kDropUpdate:
      return "an update not made";
    case Lie::kAlterKept:
      return "one element of a kept gradient off by " + percent + " of its row's norm";
    case Lie::kAlterWeight:
      return "one element of a resident weight off by " + percent + " of its row's norm";
  }
  return "";
}

LyingWorker::LyingWorker(std::shared_ptr<contract::Worker> honest, uint64_t seed)
    : honest_(std::move(honest)), random_(seed) {}

void LyingWorker::arm(Lie lie, double size, int opportunity) {
  lie_ = lie;
  size_ = size;
  wait_ = opportunity;
  has_lied_ = false;
}

void LyingWorker::end_pass() {
  last_replies_ = std::move(replies_);
  replies_.clear();
  seen_.clear();
}

bool LyingWorker::is_occasion(const Operation& operation, const Buffer& honest) const {
  switch (lie_) {
    case Lie::kElement:
    case Lie::kSample:
      return is_product(operation) && !keeps_its_result(operation) && honest.spec().elements() > 0;
    case Lie::kReplay:
    case Lie::kSwap:
      return is_product(operation) && !keeps_its_result(operation);
    case Lie::kDropUpdate:
    case Lie::kAlterWeight:
      return std::holds_alternative<contract::Update>(operation);
    case Lie::kAlterKept:
      return keeps_its_result(operation);
  }
  return false;
}

/// One element, or one row, of a copy.
Buffer LyingWorker::altered(const Buffer& honest) {
  Buffer wrong = Buffer::allocate(honest.spec());
  std::memcpy(wrong.data(), honest.data(), honest.bytes());
  const int64_t rows = honest.spec().shape.empty() ? 1 : honest.spec().shape.front();
  const int64_t width = honest.spec().elements() / rows;
  const auto row = static_cast<int64_t>(random_() % static_cast<uint64_t>(rows));
  if (lie_ == Lie::kSample) {
    for (int64_t i = row * width; i < (row + 1) * width; ++i) store(wrong, i, (1 + size_) * load(honest, i));
    return wrong;
  }
  double squares = 0;
  for (int64_t i = row * width; i < (row + 1) * width; ++i) squares += load(honest, i) * load(honest, i);
  const int64_t at = row * width + static_cast<int64_t>(random_() % static_cast<uint64_t>(width));
  const double error = size_ * std::sqrt(squares);
  store(wrong, at, load(honest, at) + ((random_() & 1U) != 0 ? error : -error));
  return wrong;
}

void LyingWorker::alter_stored(contract::OperandId id) {
  honest_->put(id, altered(honest_->submit(contract::Fetch{id}).get()));
}

Buffer LyingWorker::lie_about(const Operation& operation, const Buffer& honest, const Place& place) {
  has_lied_ = true;
  switch (lie_) {
    case Lie::kElement:
    case Lie::kSample:
      return altered(honest);
    case Lie::kReplay:
      if (const auto old = last_replies_.find(place); old != last_replies_.end()) return old->second;
      break;
    case Lie::kSwap:
      if (const auto other = replies_.find({place.first, place.second - 1});
          other != replies_.end() && other->second.spec() == honest.spec())
        return other->second;
      break;
    case Lie::kAlterKept:
      alter_stored(std::get<contract::WeightGradient>(operation).keep_as);
      return honest;
    case Lie::kAlterWeight:
      alter_stored(std::get<contract::Update>(operation).w);
      return honest;
    case Lie::kDropUpdate:
      break;
  }
  has_lied_ = false;  // there was nothing to lie with
  return honest;
}

std::future<Buffer> LyingWorker::submit(Operation operation) {
  const Place place{operation.index(), seen_[operation.index()]++};
  if (wait_ == 0 && lie_ == Lie::kDropUpdate && std::holds_alternative<contract::Update>(operation)) {
    wait_ = -1;
    has_lied_ = true;
    return ready(Buffer::allocate({.type = ElementType::kFloat32, .shape = {0}}));
  }
  const Buffer honest = honest_->submit(operation).get();
  if (is_product(operation)) replies_.insert_or_assign(place, honest);
  if (wait_ < 0 || !is_occasion(operation, honest)) return ready(honest);
  if (wait_ > 0) {
    --wait_;
    return ready(honest);
  }
  const Buffer told = lie_about(operation, honest, place);
  if (has_lied_) wait_ = -1;  // else it waits for a better occasion
  return ready(told);
}

}  // namespace tempo::audit
