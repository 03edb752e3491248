#include "base/secret.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include "tempo/error.h"

namespace tempo {

SecretKey SecretKey::random() {
  // sodium_init is idempotent and thread-safe; without it the generator may not be seeded from the system.
  if (sodium_init() < 0) throw RunError("secret: libsodium could not be initialised; no key can be made");
  SecretKey key;
  randombytes_buf(key.bytes_.data(), kBytes);
  return key;
}

void protect_process_memory() {
  if (sodium_init() < 0) throw RunError("secret: libsodium could not be initialised");
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0)
    throw RunError("secret: core dumps could not be switched off; refusing to hold keys");
}

}  // namespace tempo
