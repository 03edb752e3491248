#include "attest/vendor_roots.h"

#include <openssl/pem.h>

#include "attest/vendor_roots_pem.h"

namespace tempo::attest {
namespace {

UniqueX509 load(std::string_view pem) {
  const auto bio = checked_openssl(UniqueBio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))), "read PEM");
  return checked_openssl(UniqueX509(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)), "read a pinned root");
}

VendorRoots load_all() {
  VendorRoots roots;
  roots.amd.push_back({"milan", "Milan", false, load(kAmdMilanArk), load(kAmdMilanAsk), load(kAmdMilanAsvk)});
  roots.amd.push_back({"genoa", "Genoa", false, load(kAmdGenoaArk), load(kAmdGenoaAsk), load(kAmdGenoaAsvk)});
  roots.amd.push_back({"turin", "Turin", true, load(kAmdTurinArk), load(kAmdTurinAsk), load(kAmdTurinAsvk)});
  roots.intel = load(kIntelSgxRootCa);
  return roots;
}

}  // namespace

const VendorRoots& pinned_vendor_roots() {
  static const VendorRoots roots = load_all();
  return roots;
}

}  // namespace tempo::attest
