/// Data as one HTML page that needs nothing from elsewhere.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tempo::page {

/// What a page shows of a run beside its metrics.
struct RunView {
  enum class Kind { kHidden, kShown, kWarning };
  struct Statement {
    Kind kind;
    std::string text;
  };

  std::string name;
  std::string history;                                        ///< RunHistory::to_json
  std::string summary;                                        ///< summary.json, or "": there is none
  std::vector<std::pair<std::string, std::string>> settings;  ///< name and value
  std::vector<Statement> statements;                          ///< what the settings hide from workers
  std::vector<std::string> notes;                             ///< what is missing here, and why
  int64_t total_steps = 0;                                    ///< 0: not known
};

/// A run as JSON, for the scripts of the page.
std::string to_json(const RunView& run);

/// Where a page may send requests.
enum class Connect { kNowhere, kWhereItCameFrom };
struct Document {
  std::string html;
  std::string security_policy;  ///< for the header Content-Security-Policy; the page has it as a meta tag, too
};
struct DocumentParts {
  std::string title;
  std::string body;  ///< HTML
  std::string data;  ///< JSON, which the scripts find; without scripts it is left out
  std::vector<std::string_view> scripts, styles;
  Connect connect = Connect::kNowhere;
  bool has_style_attributes = false;
};
/// The frame of every page around `parts`. Scripts and style sheets are allowed by their SHA-256 alone.
Document document(const DocumentParts& parts);

/// The page of one run or several. @param live whether it asks for more at data.json beside it
Document run_document(const std::string& title, const std::vector<RunView>& runs, bool live);
/// The page of the service's jobs, which asks for more at jobs.json beside it. @param jobs JSON
Document jobs_document(const std::string& jobs);

}  // namespace tempo::page
