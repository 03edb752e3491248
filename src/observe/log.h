/// Log lines for machines: one JSON object a line. Linked by both sides and nothing secret in it: fields are names,
/// numbers and short texts, and no type of tensor, buffer or key converts to one.
///
///   {"time":"2026-03-01T12:00:00.123Z","level":"warning","event":"operation_refused","session":3,"operation":812}
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

namespace tempo::observe {

constexpr size_t kMaxTextBytes = 256;   ///< of a text in a field; the rest is cut off
constexpr size_t kMaxLineBytes = 4096;  ///< of a line with its end: what Linux writes to a pipe in one piece

/// A named value. Only borrows: it lives as long as the call that logs it.
class Field {
 public:
  using Value = std::variant<bool, int64_t, uint64_t, double, std::string_view>;

  /// @param name from the code, never from a peer.
  template <std::same_as<bool> Bool>
  Field(std::string_view name, Bool value) : name_(name), value_(value) {}
  template <std::signed_integral Integer>
  Field(std::string_view name, Integer value) : name_(name), value_(int64_t{value}) {}
  template <std::unsigned_integral Integer>
  requires(!std::same_as<Integer, bool>) Field(std::string_view name, Integer value)
      : name_(name), value_(uint64_t{value}) {}
  /// What is not finite is logged as null.
  template <std::floating_point Real>
  Field(std::string_view name, Real value) : name_(name), value_(static_cast<double>(value)) {}
  /// Text may come from a peer: it is escaped to plain ASCII, what is not UTF-8 is replaced, and it is cut.
  Field(std::string_view name, std::string_view text) : name_(name), value_(text) {}
  Field(std::string_view name, const std::string& text) : name_(name), value_(std::string_view(text)) {}
  Field(std::string_view name, const char* text) : name_(name), value_(std::string_view(text)) {}
  /// Other pointers would be logged as addresses, or as true.
  Field(std::string_view name, const void* pointer) = delete;

  [[nodiscard]] std::string_view name() const { return name_; }
  [[nodiscard]] const Value& value() const { return value_; }

 private:
  std::string_view name_;
  Value value_;
};

/// Thread-safe, also across processes that append to the same file: each line is one write. A line that cannot be
/// written is lost; nothing throws and nothing waits for it, except for a reader of a pipe that is slow.
class Log {
 public:
  using Fields = std::initializer_list<Field>;

  /// Logs nothing, and costs a comparison.
  Log();
  /// @param file is appended to, and created, readable for owner and group; "-" is standard error.
  /// @throws InputError if it cannot be opened.
  explicit Log(const std::string& file);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// @param event what happened, from the code: "worker_lost". Fields named time, level or event are left out.
  void info(std::string_view event, Fields fields) noexcept { write("info", event, fields); }
  void warning(std::string_view event, Fields fields) noexcept { write("warning", event, fields); }
  void error(std::string_view event, Fields fields) noexcept { write("error", event, fields); }

  /// For what costs something to find out.
  [[nodiscard]] bool is_enabled() const { return descriptor_ >= 0; }

 private:
  void write(std::string_view level, std::string_view event, Fields fields) noexcept;

  int descriptor_ = -1;
  bool is_owned_ = false;
};

}  // namespace tempo::observe
