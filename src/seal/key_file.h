/// The sealing key on disk: the one secret that outlives a run.
#pragma once

#include <filesystem>
#include <string>

#include "base/secret.h"

namespace tempo::seal {

/// A key file is one line, `tempo-key-v1 <64 hex digits>`, readable by its owner alone (mode 0600 or stricter).
/// Whoever can read it can open everything sealed under it: in production it comes from the platform's key release.

/// @throws InputError if the file is missing, is not a key file, or grants anything to group or others.
SecretKey load_key(const std::filesystem::path& path);

/// Writes a fresh random key, mode 0600; missing folders are made, mode 0700.
/// @throws InputError if something already has that name: a key is never overwritten. @throws RunError on I/O failure.
void create_key(const std::filesystem::path& path);

/// Loads the key, or makes one where there is none. `*created` tells which, unless null.
SecretKey load_or_create_key(const std::filesystem::path& path, bool* created);

/// $XDG_CONFIG_HOME/tempo/checkpoint.key, or ~/.config/tempo/checkpoint.key.
/// @throws InputError if neither XDG_CONFIG_HOME nor HOME is an absolute path.
std::filesystem::path default_key_path();

/// 16 hex digits that name a key without revealing it (one-way). Public: stands in sealed files and in messages.
std::string key_id(const SecretKey& key);

}  // namespace tempo::seal
