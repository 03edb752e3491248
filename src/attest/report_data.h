/// What the master has its hardware sign: that this key, on this connection, for this request, under this
/// configuration, is the attested code's.
#pragma once

#include "attest/types.h"

namespace tempo::attest {

/// All borrowed. Each is length-prefixed, so no two bindings give the same bytes to hash.
struct ReportDataBinding {
  ByteView nonce;               // 32 bytes, fresh, from the client
  ByteView spki;                // SubjectPublicKeyInfo (DER) of the TLS certificate that the master shows
  ByteView release_public_key;  // to which the client will wrap the data set's key
  ByteView tls_exporter;        // 32 bytes of keying material of this very connection (RFC 9266 or RFC 5705)
  ByteView config_hash;         // 32 bytes: SHA-256 of what the master was started with
};

/// SHA-512 over label, nonce, SPKI, key-release key, exporter and config hash, each after its length (u64,
/// little-endian). The label is "tempo/v1/report-data". @throws InputError if a part is empty, over 8 KiB, or not of
/// its fixed size.
ReportData bind_report_data(const ReportDataBinding& binding);

}  // namespace tempo::attest
