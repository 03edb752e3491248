/// Private working memory for half-mixed values, which no worker may see.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace tempo::obfuscation {

/// Returns at least `bytes` bytes of the calling thread's scratch memory, 64-byte aligned, with undefined contents. The
/// memory is kept for the thread's next call, which may move it, and freed when the thread ends: faulting in fresh
/// pages would cost more than blinding.
/// @throws RunError if there is not that much memory.
std::byte* thread_scratch(size_t bytes);

/// Hands out the numbers 0 .. count - 1, each to one helper at a time, so that each helper has its own scratch memory.
/// Thread-safe; at most `count` numbers may be held at a time.
class Tickets {
 public:
  explicit Tickets(int count);

  class Held {
   public:
    explicit Held(Tickets& from);
    ~Held();
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    [[nodiscard]] size_t number() const { return number_; }

   private:
    Tickets& from_;
    size_t number_;
  };

 private:
  std::mutex mutex_;
  std::vector<size_t> free_;
};

}  // namespace tempo::obfuscation
