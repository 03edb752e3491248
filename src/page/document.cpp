#include "page/document.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "page/html_text.h"
#include "page/parts.h"
#include "tempo/error.h"

namespace tempo::page {
namespace {

using Json = nlohmann::ordered_json;

/// 'sha256-...' as a source of a security policy.
std::string hash_source(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1)
    throw RunError("page: OpenSSL gives no SHA-256");
  std::array<unsigned char, 4 * ((EVP_MAX_MD_SIZE + 2) / 3) + 1> base64;
  const int length = EVP_EncodeBlock(base64.data(), digest.data(), static_cast<int>(size));
  return fmt::format(" 'sha256-{}'", std::string_view(reinterpret_cast<const char*>(base64.data()), length));
}

/// JSON that may stand in an HTML element: nothing in it ends the element.
std::string for_html(const std::string& json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  }
  return out;
}

std::string fill_in(std::string_view form, const std::map<std::string_view, std::string>& values) {
  std::string out;
  for (size_t at = 0; at < form.size();) {
    const size_t begin = form.find("{{", at), end = form.find("}}", begin);
    if (begin == form.npos || end == form.npos) return out += form.substr(at);
    out += form.substr(at, begin - at);
    out += values.at(form.substr(begin + 2, end - begin - 2));
    at = end + 2;
  }
  return out;
}

const char* name_of(RunView::Kind kind) {
  switch (kind) {
    case RunView::Kind::kHidden:
      return "hidden";
    case RunView::Kind::kShown:
      return "shown";
    case RunView::Kind::kWarning:
      return "warning";
  }
  return "";
}

std::string elements(const char* name, const std::vector<std::string_view>& texts, std::string& sources) {
  std::string out;
  for (const std::string_view text : texts) {
    sources += hash_source(text);
    out += fmt::format("<{0}>{1}</{0}>\n", name, text);
  }
  return out;
}

}  // namespace

std::string to_json(const RunView& run) {
  Json statements = Json::array(), settings = Json::array();
  for (const RunView::Statement& one : run.statements)
    statements.push_back(Json{{"kind", name_of(one.kind)}, {"text", one.text}});
  for (const auto& [name, value] : run.settings) settings.push_back(Json::array({name, value}));
  Json head{{"name", run.name}, {"settings", settings}, {"statements", statements}, {"notes", run.notes}};
  if (run.total_steps > 0) head["total_steps"] = run.total_steps;
  std::string text = head.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.pop_back();
  return fmt::format("{},\"summary\":{},\"history\":{}}}", text, run.summary.empty() ? "null" : run.summary,
                     run.history);
}

Document document(const DocumentParts& parts) {
  std::string script_sources, style_sources, head, body = parts.body, scripts;
  if (!parts.scripts.empty()) {
    head = "<link rel=\"icon\" href=\"data:,\">\n";  // or a browser asks for one
    body +=
        "<noscript><p class=\"note\">Scripts of this page draw what it shows, and the browser runs "
        "none.</p></noscript>\n";
    scripts = fmt::format("<script type=\"application/json\" id=\"data\">{}</script>\n", for_html(parts.data)) +
              elements("script", parts.scripts, script_sources);
  }
  head += elements("style", parts.styles, style_sources);
  Document made;
  made.security_policy = fmt::format(
      "default-src 'none'; script-src{}; style-src{}{}; connect-src {}; img-src data:; base-uri 'none'; form-action "
      "'none'",
      script_sources.empty() ? " 'none'" : script_sources, style_sources,
      parts.has_style_attributes ? "; style-src-attr 'unsafe-inline'" : "",
      parts.connect == Connect::kNowhere ? "'none'" : "'self'");
  made.html = fill_in(page_html(), {{"policy", made.security_policy},
                                    {"title", escape_html(parts.title)},
                                    {"head", head},
                                    {"body", body},
                                    {"scripts", scripts}});
  made.security_policy += "; frame-ancestors 'none'";  // has no meaning in a meta tag
  return made;
}

Document run_document(const std::string& title, const std::vector<RunView>& runs, bool live) {
  std::string all;
  for (const RunView& run : runs) {
    if (!all.empty()) all += ',';
    all += to_json(run);
  }
  return document({.title = title,
                   .body = {},
                   .data = fmt::format("{{\"live\":{},\"runs\":[{}]}}", live, all),
                   .scripts = {uplot_js(), parts_js(), charts_js(), runs_js(), curves_js(), live_js(), page_js()},
                   .styles = {uplot_css(), page_css()},
                   .connect = live ? Connect::kWhereItCameFrom : Connect::kNowhere});
}

Document jobs_document(const std::string& jobs) {
  return document({.title = "Jobs of this service",
                   .body = {},
                   .data = jobs,
                   .scripts = {parts_js(), jobs_js()},
                   .styles = {page_css()},
                   .connect = Connect::kWhereItCameFrom});
}

}  // namespace tempo::page
