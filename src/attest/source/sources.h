/// The kinds of source, over files that tests can replace.
#pragma once

#include "attest/source.h"
#include "attest/source/device_files.h"

namespace tempo::attest {

/// Whether the platform's files are there.
bool has_configfs_tsm(const DeviceFiles& files, const std::filesystem::path& root);
bool has_gramine(const DeviceFiles& files, const std::filesystem::path& root);

/// Linux's interface of TEE guests (Documentation/ABI/testing/configfs-tsm-report). @throws RunError for a provider
/// that is not known here.
std::unique_ptr<EvidenceSource> make_configfs_tsm_source(std::unique_ptr<DeviceFiles> files,
                                                         const std::filesystem::path& root);
/// Gramine's pseudo-files (Gramine's documentation, "Attestation and secret provisioning"). @throws RunError unless it
/// was built to make DCAP quotes.
std::unique_ptr<EvidenceSource> make_gramine_source(std::unique_ptr<DeviceFiles> files,
                                                    const std::filesystem::path& root);
/// Measures the running program as the hash of its file, and signs with a key that it throws away.
std::unique_ptr<EvidenceSource> make_insecure_simulated_source(const std::filesystem::path& root);

/// The certificates in the table that an SEV-SNP host hands to its guest (GHCB specification, "SNP extended guest
/// request"): entries of a GUID, an offset and a length, then a GUID of zeros. What is no certificate is left out: the
/// table is the host's, and nothing of it is believed.
/// @throws InputError if an entry leaves the table, or over the caps of evidence.h.
std::vector<Bytes> parse_certificate_table(ByteView table);

}  // namespace tempo::attest
