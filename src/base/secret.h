/// Memory for secrets: wiped on destruction, never copied by accident, never printed.
#pragma once

#include <sodium.h>

#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace tempo {

/// A 32-byte secret. Move-only; the moved-from object is wiped. Has no operator<< and no formatter on purpose.
class SecretKey {
 public:
  static constexpr size_t kBytes = 32;

  /// All zero; to be filled through `writable()`.
  SecretKey() = default;
  /// Fresh bytes from the operating system's generator.
  static SecretKey random();

  SecretKey(SecretKey&& other) noexcept : bytes_(other.bytes_) { other.wipe(); }
  SecretKey& operator=(SecretKey&& other) noexcept {
    if (this != &other) {
      bytes_ = other.bytes_;
      other.wipe();
    }
    return *this;
  }
  SecretKey(const SecretKey&) = delete;
  SecretKey& operator=(const SecretKey&) = delete;
  ~SecretKey() { wipe(); }

  /// A deliberate second copy.
  [[nodiscard]] SecretKey duplicate() const {
    SecretKey copy;
    copy.bytes_ = bytes_;
    return copy;
  }
  /// Constant time.
  [[nodiscard]] bool equals(const SecretKey& other) const noexcept {
    return sodium_memcmp(bytes_.data(), other.bytes_.data(), kBytes) == 0;
  }
  [[nodiscard]] std::span<const std::byte, kBytes> bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::span<std::byte, kBytes> writable() noexcept { return bytes_; }
  [[nodiscard]] const unsigned char* data() const noexcept {
    return reinterpret_cast<const unsigned char*>(bytes_.data());
  }

 private:
  void wipe() noexcept { sodium_memzero(bytes_.data(), kBytes); }

  std::array<std::byte, kBytes> bytes_{};
};

/// Bytes of a size that is set once, wiped on destruction. Move-only; has no operator<< and no formatter on purpose.
class SecretBytes {
 public:
  SecretBytes() = default;
  /// All zero.
  explicit SecretBytes(size_t size) : bytes_(size) {}
  SecretBytes(SecretBytes&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes() {
    if (!bytes_.empty()) sodium_memzero(bytes_.data(), bytes_.size());
  }

  [[nodiscard]] size_t size() const noexcept { return bytes_.size(); }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::span<std::byte> writable() noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// Initialises libsodium, switches core dumps off and forbids other processes of this user to attach.
/// Call first in `main` of every trusted program. @throws RunError if libsodium cannot be initialised.
void protect_process_memory();

}  // namespace tempo
