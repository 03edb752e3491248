/// Certificates for `grpc://`: an authority of one's own, and what it signed for workers and for the master.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tempo::seal {

constexpr int64_t kDefaultCertificateDays = 365, kMaxCertificateDays = 3650;

/// Makes in `folder` (made if missing, mode 0700): `ca.pem` and `ca.key`; `worker.pem` and `worker.key`, valid for
/// localhost, 127.0.0.1, ::1 and `hosts` (names or addresses), and only as a server; `master.pem` and `master.key`,
/// only as a client. EC P-256, X.509 v3; the authority is valid for ten years, the others for
/// `days`, from 1 to kMaxCertificateDays. Keys have mode 0600.
/// A worker needs ca.pem, worker.pem and worker.key; the master ca.pem, master.pem and master.key. Whoever has `ca.key`
/// can make itself any of them: it belongs on neither machine.
/// @throws InputError if one of the files is there already (nothing is overwritten), for a host that is none, or for
/// other days; RunError if a file cannot be written or OpenSSL fails.
void create_tls_certificates(const std::filesystem::path& folder, const std::vector<std::string>& hosts,
                             int64_t days = kDefaultCertificateDays);

}  // namespace tempo::seal
