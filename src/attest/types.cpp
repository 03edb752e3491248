#include "attest/types.h"

#include <fmt/format.h>

#include <optional>

#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

/// The number of `count` decimal digits at `offset`; -1 if they are none.
int decimal(std::string_view text, size_t offset, size_t count) {
  int value = 0;
  for (const char digit : text.substr(offset, count)) {
    if (digit < '0' || digit > '9') return -1;
    value = 10 * value + (digit - '0');
  }
  return value;
}

std::optional<UtcTime> read_utc(std::string_view text) {
  using namespace std::chrono;
  const bool has_time = text.size() == 20 && text[10] == 'T' && text[13] == ':' && text[16] == ':' && text[19] == 'Z';
  if ((text.size() != 10 && !has_time) || text[4] != '-' || text[7] != '-') return std::nullopt;
  const int y = decimal(text, 0, 4), m = decimal(text, 5, 2), d = decimal(text, 8, 2);
  if (y < 0 || m < 0 || d < 0) return std::nullopt;
  const year_month_day date = year(y) / month(static_cast<unsigned>(m)) / day(static_cast<unsigned>(d));
  const int hour = has_time ? decimal(text, 11, 2) : 0, minute = has_time ? decimal(text, 14, 2) : 0,
            second = has_time ? decimal(text, 17, 2) : 0;
  const bool is_time = hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second < 60;
  if (!date.ok() || !is_time) return std::nullopt;
  return sys_days(date) + hours(hour) + minutes(minute) + seconds(second);
}

}  // namespace

UtcTime utc_now() { return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()); }

UtcTime parse_utc(std::string_view text, std::string_view what) {
  const auto time = read_utc(text);
  if (!time)
    throw InputError(fmt::format("{}: got {}, expected a time like 2025-07-01 or 2025-07-01T10:16:03Z", what,
                                 quote_untrusted(text, 32)));
  return *time;
}

std::string to_text(UtcTime time) {
  using namespace std::chrono;
  const auto midnight = floor<days>(time);
  const year_month_day date(midnight);
  const hh_mm_ss clock(time - midnight);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), clock.hours().count(),
                     clock.minutes().count(), clock.seconds().count());
}

std::string to_hex(ByteView bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::byte byte : bytes) {
    text.push_back("0123456789abcdef"[std::to_integer<unsigned>(byte) >> 4U]);
    text.push_back("0123456789abcdef"[std::to_integer<unsigned>(byte) & 15U]);
  }
  return text;
}

Bytes from_hex(std::string_view text, size_t bytes, std::string_view what) {
  const auto refuse = [&] {
    throw InputError(
        fmt::format("{}: got {}, expected {} hexadecimal digits", what, quote_untrusted(text, 32), 2 * bytes));
  };
  if (text.size() != 2 * bytes) refuse();
  Bytes out(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    const int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
    if (high < 0 || low < 0) refuse();
    out[i] = static_cast<std::byte>(16 * high + low);
  }
  return out;
}

}  // namespace tempo::attest
