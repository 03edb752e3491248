#include "offload/session.h"

#include <fmt/format.h>

#include <algorithm>

#include "offload/stopwatch.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace {

template <typename T>
obfuscation::PixelProducts<T> products(const ProductsOnTheWay& of) {
  return {of.count, static_cast<const T*>(of.vectors), static_cast<T*>(of.planes), static_cast<const T*>(of.weights),
          of.column_sums};
}

}  // namespace

uint64_t CallCounter::next(const Session& session) {
  if (session.pass_serial() == 0) throw InputError("session: a product before begin_pass has no keys of its own");
  if (pass_serial_ != session.pass_serial()) {
    pass_serial_ = session.pass_serial();
    calls_ = 0;
  }
  return calls_++;
}

Operand& Operand::operator=(Operand&& other) noexcept {
  if (this != &other) {
    reset();
    session_ = other.session_;
    id_ = other.id_;
    other.session_ = nullptr;
  }
  return *this;
}

void Operand::reset() noexcept {
  if (session_ == nullptr) return;
  try {
    session_->workers().free(id_);
  } catch (...) {
    // A worker that cannot free an operand is gone, and its store with it.
  }
  session_ = nullptr;
}

void Operand::set_source(WorkerPool::Source source) const {
  if (session_ != nullptr) session_->workers().set_source(id_, std::move(source));
}

Session::Session(const BlindingOptions& options, SecretKey master, std::shared_ptr<Worker> worker, int tee_threads,
                 const integrity::PolicySetting& integrity)
    : Session(options, std::move(master), std::make_unique<WorkerPool>(std::move(worker)), tee_threads, integrity) {}

Session::Session(const BlindingOptions& options, SecretKey master, std::unique_ptr<WorkerPool> workers, int tee_threads,
                 const integrity::PolicySetting& integrity)
    : options_(options),
      keys_(std::move(master), obfuscation::make_scheme(options)),
      ahead_(tee_threads > 1 ? std::make_unique<KeyAhead>(keys_) : nullptr),
      workers_(std::move(workers)),
      threads_(tee_threads),
      verifier_(integrity) {
  if (options.weights == WeightPlacement::kResident && !keys_.scheme().is_orthogonal())
    throw InputError("session: resident weights need a scheme with orthogonal keys");
}

void Session::begin_pass(obfuscation::Pass pass) {
  const std::pair now{pass.number, pass.batch};
  const auto [last, is_first] = last_passes_.try_emplace(pass.period, now);
  if (!is_first && now <= last->second)
    throw InputError(
        fmt::format("session: pass {} batch {} after pass {} batch {}, expected a later one: its keys would "
                    "meet other operands",
                    pass.number, pass.batch, last->second.first, last->second.second));
  last->second = now;
  pass_ = pass;
  ++pass_serial_;
  if (ahead_) ahead_->begin_pass(pass);
}

std::shared_ptr<const obfuscation::Key> Session::derive(const obfuscation::KeyPath& path, obfuscation::KeyRole role,
                                                        int64_t size) {
  const Stopwatch watch(counters_.key_seconds);
  if (size < 0 || size > int64_t{UINT32_MAX})
    throw InputError(fmt::format("layer {}: a dimension of {} is too long for one key, expected at most {}", path.layer,
                                 size, UINT32_MAX));
  if (ahead_) return ahead_->derive(path, role, static_cast<uint32_t>(size));
  return std::make_shared<const obfuscation::Key>(keys_.derive(path, role, static_cast<uint32_t>(size)));
}

ElementType Session::wire_type(ElementType type) const {
  const bool narrow = type == ElementType::kFloat32 && options_.wire == WirePrecision::kBFloat16;
  return narrow ? ElementType::kBFloat16 : type;
}

Counters Session::totals() const {
  Counters all = counters_;
  all.bytes_to_workers = workers_->bytes_sent();
  all.bytes_from_workers = workers_->bytes_received();
  all.reissued = workers_->reissued();
  return all;
}

void Session::restart(SecretKey master) {
  const bool is_ahead = ahead_ != nullptr;
  ahead_.reset();
  keys_ = obfuscation::KeyRing(std::move(master), obfuscation::make_scheme(options_));
  if (is_ahead) ahead_ = std::make_unique<KeyAhead>(keys_);
  last_passes_.clear();
}

Session::Slices Session::slices_of(const obfuscation::Key& rows, size_t bytes) const {
  // With smaller slices, waking the TEE's threads for each costs more than the overlap gains (docs/performance.md).
  constexpr size_t kWorthwhileBytes = size_t{32} << 20;
  constexpr size_t kMost = 4;
  if (!workers_->is_single()) return {};
  size_t count = static_cast<size_t>(options_.slices);
  // A worker on this machine's processors would only compete with blinding for them.
  if (count == 0) count = workers_->device() == "cpu" ? 1 : std::min(kMost, bytes / kWorthwhileBytes);
  Slices slices = obfuscation::slice_rows(rows, static_cast<int64_t>(count));
  return slices.size() > 1 ? slices : Slices();
}

Buffer Session::blind(OperandId id, const std::vector<BlindItem>& items, const obfuscation::TileGeometry& geometry,
                      ElementType wire, std::vector<int64_t> shape, const Slices& slices) {
  Buffer buffer = workers_->allocate({.type = wire, .shape = std::move(shape)});
  const size_t stride = static_cast<size_t>(geometry.elements()) * element_bytes(wire);
  const Stopwatch watch(counters_.blind_seconds);
  std::byte* out = buffer.data();
  obfuscation::BlindSlices put;
  if (!slices.empty()) {
    workers_->begin_slices(id, buffer.spec());
    put = {slices, [&](const obfuscation::RowRange& rows) { workers_->put_slice(id, buffer, rows); }};
  }
  for (const BlindItem& item : items) {
    with_element_type(item.x.type, [&](auto element) {
      using T = std::remove_const_t<std::remove_pointer_t<decltype(element)>>;
      obfuscation::blind<T>(static_cast<const T*>(item.x.data), geometry, item.rows, item.channels, wire, out, threads_,
                            {.decoys = {item.decoy_images, static_cast<const T*>(item.decoys)},
                             .products = products<T>(item.products),
                             .slices = put,
                             .map = item.map});
    });
    out += stride;
  }
  if (plain_observer_ != nullptr) plain_observer_->sent(id, geometry, items);
  return buffer;
}

Operand Session::send(Spread spread, const Blinding& make, const Operand& like, const Slices& slices) {
  const OperandId id = new_operand_id();
  Operand operand(*this, id);
  WorkerPool::Source again = [make, id] { return make(id, {}); };
  const Buffer buffer = make(id, slices);
  if (slices.empty())
    workers_->put(id, buffer, spread, std::move(again), like.id());
  else
    workers_->set_source(id, std::move(again));
  ++counters_.encryptions;
  return operand;
}

Operand Session::send_blinded_unchecked(const Buffer& buffer) {
  Operand operand(*this, new_operand_id());
  workers_->put(operand.id(), buffer, Spread::kEverywhere, {});
  return operand;
}

PendingReply Session::submit(Operation operation, TensorSpec expected, std::string what) {
  return workers_->submit(std::move(operation), std::move(expected), std::move(what));
}

Buffer Session::receive(PendingReply& reply) {
  const Stopwatch watch(counters_.wait_seconds);
  return workers_->receive(reply);
}

void Session::accept(PendingReply& reply, const WorkerPool::Accept& use) {
  const Buffer buffer = receive(reply);
  try {
    use(buffer);
  } catch (const IntegrityError&) {
    workers_->resolve(reply, buffer, use, std::current_exception());
  }
}

void Session::accept_rows(PendingReply& reply, const Slices& slices,
                          const std::function<void(const ArrivingReply&)>& use) {
  const WorkerPool::Accept use_whole = [&use](const Buffer& whole) { use({whole, whole.spec().type}); };
  const auto is_slice = [](const Shard& shard, const obfuscation::RowRange& rows) { return shard.rows == rows; };
  const bool is_sliced =
      slices.size() > 1 && std::equal(reply.shards.begin(), reply.shards.end(), slices.begin(), slices.end(), is_slice);
  if (!is_sliced || is_observed()) return accept(reply, use_whole);
  size_t next = 0;
  const auto arrive = [&](const obfuscation::RowRange&) {
    double waited = 0;
    const std::byte* rows = nullptr;
    {
      const Stopwatch watch(waited);
      rows = workers_->receive_shard(reply, next++).data();
    }
    counters_.wait_seconds += waited;
    counters_.unblind_seconds -= waited;  // the stopwatch of un-blinding runs while this waits
    return rows;
  };
  try {
    use({{}, reply.expected.type, {slices, arrive}});
  } catch (const IntegrityError&) {
    workers_->resolve(reply, workers_->combine(reply), use_whole, std::current_exception());
  }
}

void Session::unblind(const std::byte* in, ElementType wire, const obfuscation::TileGeometry& geometry,
                      const UnblindItem& item, const obfuscation::UnblindSlices& slices) {
  const Stopwatch watch(counters_.unblind_seconds);
  with_element_type(item.x.type, [&](auto element) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(element)>>;
    obfuscation::unblind<T>(
        in, wire, geometry, item.rows, item.channels, static_cast<T*>(item.x.data), threads_,
        {.decoy_images = item.decoy_images,
         .products = products<T>(item.products),
         .moments = {static_cast<const T*>(item.moments.shift), item.moments.sums, item.moments.squares},
         .addend = static_cast<const T*>(item.addend),
         .slices = slices});
  });
}

void Session::unblind(const Buffer& reply, const obfuscation::TileGeometry& geometry,
                      const std::vector<UnblindItem>& items) {
  const ElementType wire = reply.spec().type;
  const size_t stride = static_cast<size_t>(geometry.elements()) * element_bytes(wire);
  const std::byte* in = reply.data();
  for (const UnblindItem& item : items) {
    unblind(in, wire, geometry, item, {});
    in += stride;
  }
  if (plain_observer_ != nullptr) plain_observer_->received(reply, geometry, items);
}

void Session::unblind(const ArrivingReply& reply, const obfuscation::TileGeometry& geometry, const UnblindItem& item) {
  if (reply.slices.rows.empty()) return unblind(reply.whole, geometry, std::vector<UnblindItem>{item});
  unblind(nullptr, reply.wire, geometry, item, reply.slices);
}

}  // namespace tempo::offload
