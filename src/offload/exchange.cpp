#include "offload/exchange.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "offload/decoys.h"
#include "offload/stopwatch.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace {

/// Element `offset` of a plain tensor.
template <typename Pointer>
Pointer advanced(Pointer data, int64_t offset, ElementType type) {
  using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const std::byte, std::byte>;
  return static_cast<Byte*>(data) + static_cast<size_t>(offset) * element_bytes(type);
}

}  // namespace

Buffer BlindedOperand::make_decoys() const {
  if (tensor.decoy_images == 0) return {};
  const obfuscation::TileGeometry& g = tensor.side.geometry;
  Csprng noise(decoys.seed.duplicate());
  return offload::make_decoys(x.type, g.height * g.width * g.channels, decoys, noise);
}

Operand& Operand::operator=(Operand&& other) noexcept {
  if (this != &other) {
    reset();
    workers_ = other.workers_;
    id_ = other.id_;
    other.workers_ = nullptr;
  }
  return *this;
}

void Operand::reset() noexcept {
  if (workers_ == nullptr) return;
  try {
    workers_->free(id_);
  } catch (...) {
    // A worker that cannot free an operand is gone, and its store with it.
  }
  workers_ = nullptr;
}

Counters Exchange::totals() const {
  Counters all = counters_;
  all.bytes_to_workers = workers_->bytes_sent();
  all.bytes_from_workers = workers_->bytes_received();
  all.reissued = workers_->reissued();
  return all;
}

Slices Exchange::slices_of(const obfuscation::Key& rows, const PanelLayout& panels, int asked, size_t bytes) const {
  // With smaller slices, waking the TEE's threads for each costs more than the overlap gains:
  // docs/notes/performance.md.
  constexpr size_t kWorthwhileBytes = size_t{32} << 20;
  constexpr size_t kMost = 4;
  if (!workers_->is_single()) return {};
  auto count = static_cast<size_t>(asked);
  // A worker on this machine's processors would only compete with blinding for them.
  if (count == 0) count = workers_->device() == "cpu" ? 1 : std::min(kMost, bytes / kWorthwhileBytes);
  Slices slices = obfuscation::slice_rows(rows, panels, static_cast<int64_t>(count));
  return slices.size() > 1 ? slices : Slices();
}

/// An operand that the pool can make again.
class Exchange::Source final : public OperandSource {
 public:
  Source(Exchange& exchange, BlindedOperand operand) : exchange_(exchange), operand_(std::move(operand)) {}

  [[nodiscard]] const BlindedOperand& operand() const { return operand_; }
  void write(std::byte* out) const override { write(out, operand_.make_decoys(), {}); }

  void write(std::byte* out, const Buffer& decoys, const obfuscation::PixelProducts& products) const {
    const Stopwatch watch(exchange_.counters_.blind_seconds);
    for (size_t item = 0; item < operand_.tensor.keys.size(); ++item, out += operand_.tensor.wire_bytes())
      obfuscation::blind(operand_.tensor.blinding(item), plain(item, decoys), out, exchange_.threads_,
                         {.map = operand_.map.get(), .products = products});
  }
  /// Blinds and puts one slice of rows after the other.
  void write_slices(const Buffer& whole, OperandId id, const Buffer& decoys, const Sending& how) const {
    obfuscation::Blinder blinder(operand_.tensor.blinding(0), plain(0, decoys), whole.data(), exchange_.threads_,
                                 {.map = operand_.map.get(), .products = how.products});
    for (const obfuscation::RowRange& rows : how.slices) {
      {
        const Stopwatch watch(exchange_.counters_.blind_seconds);
        blinder.rows(rows);
      }
      exchange_.workers_->put_slice(id, whole, rows);
    }
    blinder.finish();
  }

 private:
  [[nodiscard]] obfuscation::PlainOperand plain(size_t item, const Buffer& decoys) const {
    const int64_t offset = static_cast<int64_t>(item) * operand_.tensor.plain_elements();
    return {{operand_.x.type, advanced(operand_.x.data, offset, operand_.x.type)}, decoys.data()};
  }

  Exchange& exchange_;
  BlindedOperand operand_;
};

Operand Exchange::send(BlindedOperand operand, const Sending& how) {
  const OperandId id = new_operand_id();
  Operand handle(*workers_, id);
  const auto source = std::make_shared<const Source>(*this, std::move(operand));
  const BlindedOperand& made = source->operand();
  const Buffer whole = workers_->allocate(made.tensor.side.wire);
  const Buffer decoys = made.make_decoys();
  // One worker alone cannot be helped by another, and its operands need not be kept in plain.
  const bool is_kept = workers_->is_redundant() && !how.is_rekeying;
  WorkerPool::Source again = is_kept ? source : nullptr;
  if (how.slices.empty()) {
    source->write(whole.data(), decoys, how.products);
    workers_->put(
        id, whole,
        {.spread = made.tensor.side.spread, .source = std::move(again), .like = how.like, .holder = how.holder});
  } else {
    workers_->begin_slices(id, whole.spec(), std::move(again));
    source->write_slices(whole, id, decoys, how);
  }
  if (observer_ != nullptr) observer_->sent(id, made, decoys);
  ++(how.is_rekeying ? counters_.rekey_encryptions : counters_.encryptions);
  return handle;
}

Operand Exchange::send_blinded_unchecked(const Buffer& buffer) {
  Operand operand(*workers_, new_operand_id());
  workers_->put(operand.id(), buffer, {.spread = Spread::kEverywhere});
  return operand;
}

PendingReply Exchange::start(Operation operation, TensorSpec expected, std::string what) {
  return workers_->submit(std::move(operation), std::move(expected), std::move(what));
}

Buffer Exchange::receive(PendingReply& reply) {
  const Stopwatch watch(counters_.wait_seconds);
  return workers_->receive(reply);
}

/// One try at a result: what is taken of it on the way, what is left for afterwards.
class Exchange::Taking {
 public:
  Taking(Exchange& exchange, const BlindedResult& result, ResultCheck* check)
      : exchange_(exchange), result_(result), check_(check), taps_(result.taps) {
    const obfuscation::Blinding how = result.tensor.blinding(0);
    if (check_ != nullptr) {
      taps_.products = check_->want();
      is_taken_ = taps_.products.count > 0 && obfuscation::supports({.products = taps_.products}, how);
      if (!is_taken_) taps_.products = {};
    }
    // A check that measures the result must see it without the addend.
    const bool adds_on_the_way = (check_ == nullptr || is_taken_) && result.tensor.decoy_images == 0 &&
                                 result.tensor.keys.size() == 1 && obfuscation::supports(taps_, how);
    if (!adds_on_the_way) taps_.addend = nullptr;
    if (result.to.data == nullptr) room_ = Buffer::allocate({.type = result.to.type, .shape = {elements()}});
  }

  [[nodiscard]] const obfuscation::Taps& taps() const { return taps_; }
  [[nodiscard]] PlainTensor whole() const {
    return {result_.to.type, result_.to.data == nullptr ? room_.data() : result_.to.data};
  }
  [[nodiscard]] PlainTensor item(size_t index) const {
    const int64_t offset = static_cast<int64_t>(index) * result_.tensor.plain_elements();
    return {result_.to.type, advanced(whole().data, offset, result_.to.type)};
  }
  /// Checks the result, once it is un-blinded, and adds what is still to be added.
  void finish() {
    if (check_ != nullptr) {
      const Stopwatch watch(exchange_.counters_.verify_seconds);
      check_->check(whole(), is_taken_);
    }
    if (result_.taps.addend == nullptr || taps_.addend != nullptr) return;
    const Stopwatch watch(exchange_.counters_.unblind_seconds);
    obfuscation::add(whole(), result_.taps.addend, elements(), exchange_.threads_);
  }

 private:
  [[nodiscard]] int64_t elements() const {
    return result_.tensor.plain_elements() * static_cast<int64_t>(result_.tensor.keys.size());
  }

  Exchange& exchange_;
  const BlindedResult& result_;
  ResultCheck* check_;
  obfuscation::Taps taps_;
  bool is_taken_ = false;
  Buffer room_;
};

void Exchange::take(const Buffer& reply, const BlindedResult& result, ResultCheck* check) {
  if (result.to.data == nullptr && check == nullptr) return;
  Taking taking(*this, result, check);
  {
    const Stopwatch watch(counters_.unblind_seconds);
    const std::byte* in = reply.data();
    for (size_t item = 0; item < result.tensor.keys.size(); ++item, in += result.tensor.wire_bytes())
      obfuscation::unblind(result.tensor.blinding(item), in, taking.item(item), threads_, taking.taps());
  }
  if (observer_ != nullptr) observer_->received(reply, result);
  taking.finish();
}

void Exchange::take_slices(PendingReply& reply, const BlindedResult& result, ResultCheck* check, const Slices& slices) {
  Taking taking(*this, result, check);
  obfuscation::Unblinder unblinder(result.tensor.blinding(0), taking.whole(), threads_, taking.taps());
  for (size_t i = 0; i < slices.size(); ++i) {
    const std::byte* rows = nullptr;
    {
      const Stopwatch watch(counters_.wait_seconds);
      rows = workers_->receive_shard(reply, i).data();
    }
    const Stopwatch watch(counters_.unblind_seconds);
    unblinder.rows(slices[i], rows);
    if (i + 1 == slices.size()) unblinder.finish();
  }
  if (observer_ != nullptr) observer_->received(workers_->combine(reply), result);
  taking.finish();
}

Buffer Exchange::finish(PendingReply& reply, const BlindedResult& result, ResultCheck* check, const Slices& slices) {
  Buffer accepted;
  const WorkerPool::Accept use = [&](const Buffer& whole) {
    accepted = whole;
    take(whole, result, check);
  };
  const auto is_slice = [](const Shard& shard, const obfuscation::RowRange& rows) { return shard.rows == rows; };
  const bool is_sliced =
      slices.size() > 1 && std::equal(reply.shards.begin(), reply.shards.end(), slices.begin(), slices.end(), is_slice);
  if (is_sliced) {
    try {
      take_slices(reply, result, check, slices);
    } catch (const IntegrityError&) {
      workers_->resolve(reply, workers_->combine(reply), use, std::current_exception());
    }
    return accepted;
  }
  const Buffer whole = receive(reply);
  try {
    use(whole);
  } catch (const IntegrityError&) {
    workers_->resolve(reply, whole, use, std::current_exception());
  }
  return accepted;
}

}  // namespace tempo::offload
