/// Part of make_corpus.
#pragma once

#include <filesystem>

namespace tempo::fuzz {

/// Writes folder/snp_report, tdx_quote, sgx_quote, collateral, policy and evidence.
void make_attest_corpus(const std::filesystem::path& folder);

}  // namespace tempo::fuzz
