#include "offload/session.h"

#include <fmt/format.h>

#include "offload/stopwatch.h"
#include "tempo/error.h"

namespace tempo::offload {

uint64_t CallCounter::next(const Session& session) {
  if (session.pass_serial() == 0) throw InputError("session: a product before begin_pass has no keys of its own");
  if (pass_serial_ != session.pass_serial()) {
    pass_serial_ = session.pass_serial();
    calls_ = 0;
  }
  return calls_++;
}

Session::Session(const BlindingOptions& options, SecretKey master, std::shared_ptr<Worker> worker, int tee_threads,
                 const integrity::PolicySetting& integrity)
    : Session(options, std::move(master), std::make_unique<WorkerPool>(std::move(worker)), tee_threads, integrity) {}

Session::Session(const BlindingOptions& options, SecretKey master, std::unique_ptr<WorkerPool> workers, int tee_threads,
                 const integrity::PolicySetting& integrity)
    : options_(options),
      keys_(std::move(master), obfuscation::make_protection(options)),
      ahead_(tee_threads > 1 ? std::make_unique<KeyAhead>(keys_) : nullptr),
      exchange_(std::move(workers), tee_threads),
      verifier_(integrity) {
  exchange_.workers().divide(protection().parts());
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
  const Stopwatch watch(counters().key_seconds);
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

void Session::restart(SecretKey master) {
  const bool is_ahead = ahead_ != nullptr;
  ahead_.reset();
  keys_ = obfuscation::KeyRing(std::move(master), obfuscation::make_protection(options_));
  if (is_ahead) ahead_ = std::make_unique<KeyAhead>(keys_);
  last_passes_.clear();
}

}  // namespace tempo::offload
