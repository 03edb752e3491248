#include "offload/pool/worker_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "base/file.h"
#include "base/text.h"
#include "offload/worker_factory.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace {

constexpr std::string_view kFile = "file:";
constexpr size_t kMaxFileBytes = size_t{1} << 20;

std::string trimmed(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\r");
  return begin == std::string::npos ? std::string() : text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::vector<std::string> parse(const std::string& text, char separator, const std::string& source) {
  check_text(text, source);
  std::vector<std::string> uris;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    const std::string uri = trimmed(part.substr(0, part.find('#')));
    if (uri.empty() && separator == '\n') continue;
    check_worker_uri(uri);
    if (std::find(uris.begin(), uris.end(), uri) != uris.end())
      throw InputError(fmt::format("{}: {} is named twice, expected every worker once", source, uri));
    uris.push_back(uri);
  }
  if (uris.empty()) throw InputError(fmt::format("{}: names no worker, expected at least one", source));
  return uris;
}

}  // namespace

WorkerList::WorkerList(const std::string& text) {
  if (!text.starts_with(kFile)) {
    uris_ = parse(text, ',', "workers");
    return;
  }
  file_ = text.substr(kFile.size());
  seen_ = stamp();
  uris_ = parse(read_text_file(file_, kMaxFileBytes), '\n', file_.string());
}

std::optional<WorkerList::Stamp> WorkerList::stamp() const {
  std::error_code error;
  const auto time = std::filesystem::last_write_time(file_, error);
  if (error) return std::nullopt;
  const auto bytes = std::filesystem::file_size(file_, error);
  return error ? std::nullopt : std::optional(Stamp{time, bytes});
}

std::optional<std::vector<std::string>> WorkerList::changed(std::string& problem) {
  if (file_.empty()) return std::nullopt;
  const auto now = stamp();
  if (now == seen_) return std::nullopt;
  seen_ = now;
  try {
    uris_ = parse(read_text_file(file_, kMaxFileBytes), '\n', file_.string());
    return uris_;
  } catch (const Error& error) {
    problem = error.what();
    return std::nullopt;
  }
}

}  // namespace tempo::offload
