/// CIFAR-10 in its standard binary layout: records of one label byte and 32x32 red, green and blue planes (3072 bytes).
/// https://www.cs.toronto.edu/~kriz/cifar.html
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "train/data/dataset.h"
#include "train/data/source.h"

namespace tempo::train {

/// Where the test images are.
inline constexpr const char* kCifar10TestFile = "test_batch.bin";
/// A data file holds a million images at most.
inline constexpr size_t kMaxCifar10FileBytes = size_t{3073} * 1'000'000;

/// Training images: every data_batch_N.bin there is, by ascending N. Test images: test_batch.bin. Class names:
/// batches.meta.txt if it is there, else the standard ten. Normalisation: the usual constants of the whole training
/// set.
/// @throws InputError if the folder, every data batch or the test batch is missing, or a file does not hold whole
/// records with labels 0..9; names the file, the record and what was found.
DataSplits load_cifar10(const DataSource& source);
DataSplits load_cifar10(const std::filesystem::path& folder);

/// A data set of no images, to append records to.
Dataset empty_cifar10(const std::string& name);

/// Appends the records of a whole file. @throws as above, or as `DataSource::read`
void append_cifar10_file(const DataSource& source, const std::string& file, Dataset& into);

/// Appends the records in `bytes`; `source` names them in messages. For loaders and fuzzing.
/// @throws InputError as above; `into` is then unchanged.
void append_cifar10_records(std::span<const std::byte> bytes, const std::string& source, Dataset& into);

/// The ten class names in the text of a batches.meta.txt: one a line, blank lines ignored.
/// @throws InputError if there are not ten, or one is longer than 64 bytes.
std::vector<std::string> parse_cifar10_class_names(std::string_view text, const std::string& source);

}  // namespace tempo::train
