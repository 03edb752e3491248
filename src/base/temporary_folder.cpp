#include "base/temporary_folder.h"

#include <stdlib.h>

#include <string>
#include <system_error>

#include "tempo/error.h"

namespace tempo {

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "tempo-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw RunError("temporary folder: none can be made where temporary files go");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace tempo
