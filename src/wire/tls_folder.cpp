#include "wire/tls_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/conf.h>
#include <openssl/ssl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "tempo/error.h"
#include "wire/certificates.h"
#include "wire/descriptor.h"

namespace tempo::wire {
namespace {

constexpr size_t kMaxPemBytes = size_t{1} << 18;

/// @param is_secret nobody but its owner may read it.
std::string read_pem(const std::filesystem::path& path, bool is_secret) {
  const UniqueDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!file || fstat(file.get(), &status) != 0)
    throw InputError(fmt::format("{}: cannot be read: {}", path.string(), std::strerror(errno)));
  if (!S_ISREG(status.st_mode) || static_cast<size_t>(status.st_size) > kMaxPemBytes)
    throw InputError(fmt::format("{}: expected a PEM file of at most {} bytes", path.string(), kMaxPemBytes));
  if (is_secret && (status.st_mode & 077U) != 0)
    throw InputError(fmt::format("{}: key file has mode {:04o}, open to group or others; expected 0600 (chmod 600 it)",
                                 path.string(), status.st_mode & 07777U));
  std::string text(static_cast<size_t>(status.st_size), '\0');
  if (read(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    throw InputError(fmt::format("{}: cannot be read: {}", path.string(), std::strerror(errno)));
  if (text.find("-----BEGIN ") == std::string::npos) throw InputError(fmt::format("{}: not a PEM file", path.string()));
  return text;
}

void configure_openssl() {
  // Loads the system's own settings first: they would replace ours later.
  OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, nullptr);
  static constexpr char kSettings[] =
      "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n"
      "[tls]\nProtocol = -TLSv1, -TLSv1.1, -TLSv1.2\n";
  const std::unique_ptr<BIO, decltype(&BIO_free)> text(BIO_new_mem_buf(kSettings, sizeof kSettings - 1), &BIO_free);
  const std::unique_ptr<CONF, decltype(&NCONF_free)> settings(NCONF_new(nullptr), &NCONF_free);
  if (!text || !settings || NCONF_load_bio(settings.get(), text.get(), nullptr) != 1 ||
      CONF_modules_load(settings.get(), nullptr, 0) != 1)
    throw RunError("tls: OpenSSL does not take the setting that refuses TLS 1.2");
}

}  // namespace

TlsIdentity load_tls_identity(const std::filesystem::path& folder, const std::string& name) {
  if (folder.empty())
    throw InputError(
        "grpc:// needs --tls DIR with certificates, as `tempo keygen --tls DIR` makes them; "
        "insecure:// does without, for measuring");
  TlsIdentity identity = {.ca = read_pem(folder / "ca.pem", false),
                          .certificate = read_pem(folder / (name + ".pem"), false),
                          .key = read_pem(folder / (name + ".key"), true)};
  check_own_certificate(identity, folder, name);
  return identity;
}

void refuse_tls_before_1_3() {
  static const bool once = [] {
    configure_openssl();
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace tempo::wire
