/// The files that pages are made of, as the build found them.
#pragma once

#include <string_view>

namespace tempo::page {

std::string_view page_html();  ///< with {{NAME}} where `document` puts something in
std::string_view page_css();
std::string_view parts_js();
std::string_view charts_js();
std::string_view runs_js();
std::string_view curves_js();
std::string_view live_js();
std::string_view page_js();
std::string_view jobs_js();
std::string_view uplot_js();  ///< third_party/uplot
std::string_view uplot_css();

}  // namespace tempo::page
