/// What a client remembers of collateral: so that nobody can show it an older list of what is safe than it has seen.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "attest/types.h"

namespace tempo::attest {

/// The newest of each item that was accepted. Not thread-safe.
class SeenCollateral {
 public:
  struct Version {
    uint64_t number = 0;  // TCB evaluation data number, or CRL number
    UtcTime issued{};
    bool operator==(const Version&) const = default;
  };

  /// Nothing seen.
  SeenCollateral() = default;
  /// Reads a file that `save` wrote; nothing seen if there is none. @throws InputError if it is something else.
  static SeenCollateral load(const std::filesystem::path& path);
  /// Replaces the file atomically. @throws RunError.
  void save(const std::filesystem::path& path) const;

  /// @param item e.g. "tcb-info tdx b0c06f000000", "qe-identity TD_QE", "crl Intel SGX Root CA".
  /// @throws AttestationError if a higher number, or a later issue date, was seen.
  void check(const std::string& item, const Version& version) const;
  /// Raises what is remembered; never lowers it.
  void remember(const std::string& item, const Version& version);

  [[nodiscard]] const std::map<std::string, Version>& items() const { return items_; }

 private:
  std::map<std::string, Version> items_;
};

}  // namespace tempo::attest
