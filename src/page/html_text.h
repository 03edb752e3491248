/// Text within HTML.
#pragma once

#include <string>
#include <string_view>

namespace tempo::page {

/// Text as it stands in an element or a quoted attribute. Control characters become spaces.
std::string escape_html(std::string_view text);

}  // namespace tempo::page
