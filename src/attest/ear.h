/// The verdict in the shape of an EAT Attestation Result (draft-ietf-rats-ear), unsigned: it is for the client itself.
#pragma once

#include <optional>

#include "attest/crypto/json.h"
#include "attest/policy.h"
#include "attest/verdict.h"

namespace tempo::attest {

struct Ear {
  Tee tee = Tee::kInsecureSimulated;
  UtcTime now{};
  Json claims = Json::object();
  bool is_verified = false;       // the vendor's signatures over `claims` hold
  std::optional<Aspect> refused;  // none: accepted
};

/// Indented. @param reason of the refusal; empty if accepted.
std::string to_json(const Ear& ear, const std::string& reason, const Policy& policy);

}  // namespace tempo::attest
