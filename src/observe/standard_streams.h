/// The standard streams of every program, and how a program ends. Shared by both sides, and nothing secret in it.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string_view>
#include <utility>

namespace tempo::observe {

/// Opens a standard stream that is closed on /dev/null: the next file would get its number otherwise, and what is
/// printed would land in that file. Every program that links `run_and_report` does this before any library starts:
/// LibTorch opens an eventfd before `main`. Ends the process with exit code 1 where there is no /dev/null.
void open_standard_streams();

/// Appends to standard output. A failure is kept for `flush_output`, so that a command does its work all the same.
void print_text(std::string_view text) noexcept;
template <typename... Values>
void print(fmt::format_string<Values...> format, Values&&... values) {
  print_text(fmt::format(format, std::forward<Values>(values)...));
}

/// For what somebody waits for; `run_and_report` does it at the end anyway. Covers what other code wrote to `stdout`
/// and `std::cout`. @throws RunError if any text printed so far could not be written.
void flush_output();

/// Writes to standard error, for people. Nobody may be there to read: a failure is ignored.
void note_text(std::string_view text) noexcept;
template <typename... Values>
void note(fmt::format_string<Values...> format, Values&&... values) {
  note_text(fmt::format(format, std::forward<Values>(values)...));
}

/// What `main` calls: runs `work`, flushes standard output, and tells on standard error, in one line, what was thrown.
/// SIGPIPE is ignored meanwhile, since a peer, or whoever reads what is printed, may leave at any time. As many files
/// may be open as the system allows; where that is too few for gRPC, which would abort, the program is refused.
/// @returns the exit code: what `work` returned, that of the error, or 1 if standard output could not be written. Where
/// its reader is gone the process ends silently by SIGPIPE, as others do.
int run_and_report(std::string_view program, const std::function<int()>& work);

/// The first line of a library's message; a stack trace may follow it.
std::string_view first_line(std::string_view message);

}  // namespace tempo::observe
