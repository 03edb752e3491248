/// The error types of the public API. Each maps to one exit code of the command line.
#pragma once

#include <stdexcept>
#include <string>

namespace tempo {

/// Exit codes of every Tempo program.
enum class ExitCode : int { kDone = 0, kFailed = 1, kBadInput = 2, kIntegrity = 3, kAttestation = 4 };

/// Base of everything Tempo throws on purpose. The message is one line: where, what came, what was expected.
/// It never contains a key, a nonce, a tensor value or an address.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), exit_code_(code) {}
  [[nodiscard]] ExitCode exit_code() const noexcept { return exit_code_; }

 private:
  ExitCode exit_code_;
};

/// The run itself failed: out of memory, a file that cannot be written, a loss that is not finite.
class RunError : public Error {
 public:
  explicit RunError(const std::string& message) : Error(ExitCode::kFailed, message) {}
};

/// A flag, a file or an argument that Tempo cannot accept.
class InputError : public Error {
 public:
  explicit InputError(const std::string& message) : Error(ExitCode::kBadInput, message) {}
};

/// A worker or a peer sent something that the protocol does not allow.
class ProtocolError : public Error {
 public:
  explicit ProtocolError(const std::string& message) : Error(ExitCode::kFailed, message) {}
};

/// A worker cannot be reached any more: it ended, or the connection to it did. What it stored is gone.
class WorkerLostError : public Error {
 public:
  explicit WorkerLostError(const std::string& message) : Error(ExitCode::kFailed, message) {}
};

/// A result of a worker is not the product that was asked for.
class IntegrityError : public Error {
 public:
  explicit IntegrityError(const std::string& message) : Error(ExitCode::kIntegrity, message) {}
};

/// Evidence that does not prove what the policy demands.
class AttestationError : public Error {
 public:
  explicit AttestationError(const std::string& message) : Error(ExitCode::kAttestation, message) {}
};

}  // namespace tempo
