#include "train/machine_rates.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "base/file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "train/config.h"
#include "train/deployment.h"

namespace tempo::train {
namespace machine_rates_test {

namespace fs = std::filesystem;
using testing::message_of;

const RatesKey kKey = {.cpu = "a CPU", .simd = "AVX2", .version = "0.1.0", .torch = "1.13.0", .cpus = 4};

nn::TeeRates some_rates() {
  return {.flops_per_second = 9.7e10,
          .conv_flops_per_second = 8.5e10,
          .bytes_per_second = 2.1e10,
          .blinding = {.permute_seconds = 0.4e-9, .rotate_seconds = 1.1e-9, .row_round_seconds = 0.6e-9}};
}

class MachineRates : public ::testing::Test {
 protected:
  [[nodiscard]] fs::path file() const { return folder_ / "cache" / "tempo" / "rates-v1.json"; }
  void write(const std::string& text) const {
    fs::create_directories(file().parent_path());
    std::ofstream(file()) << text;
  }
  /// The file of some_rates(), with one piece of its text replaced.
  void write_with(const std::string& before, const std::string& after) const {
    ASSERT_TRUE(keep_rates(file(), kKey, some_rates()));
    std::string text = read_text_file(file(), 1 << 16);
    const size_t at = text.find(before);
    ASSERT_NE(at, std::string::npos) << before;
    write(text.replace(at, before.size(), after));
  }

  testing::TempFolder folder_;
};

TEST_F(MachineRates, AFileGivesBackTheFiguresThatItWasMadeOfToItsOwnerAlone) {
  ASSERT_TRUE(keep_rates(file(), kKey, some_rates()));
  const auto rates = read_rates(file(), kKey);
  ASSERT_TRUE(rates);
  EXPECT_EQ(to_figures(*rates), to_figures(some_rates()));
  EXPECT_DOUBLE_EQ(rates->flops_per_second, 9.7e10);
  struct stat info = {};
  ASSERT_EQ(::stat(file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(MachineRates, AMissingOrGarbledFileIsReadAsNone) {
  EXPECT_FALSE(read_rates(file(), kKey));
  for (const char* text : {"", "{", "[]", "7", "{\"machine\": 1}", "{\"figures\": \"gemm=1\"}", "\xff\xfe", "null"}) {
    SCOPED_TRACE(text);
    write(text);
    EXPECT_FALSE(read_rates(file(), kKey));
  }
  for (const size_t depth : {size_t{60'000}, size_t{1} << 20}) {
    write(std::string(depth, '['));
    EXPECT_FALSE(read_rates(file(), kKey)) << depth << " brackets";
  }
  fs::remove(file());
  fs::create_directories(file());
  EXPECT_FALSE(read_rates(file(), kKey)) << "a folder";
}

TEST_F(MachineRates, FiguresOutOfRangeOrMissingAreReadAsNone) {
  for (const char* gemm : {"0", "-97", "nan", "inf", "1e9", "97x", ""}) {
    SCOPED_TRACE(gemm);
    write_with("gemm=97", std::string("gemm=") + gemm);
    EXPECT_FALSE(read_rates(file(), kKey));
  }
  write_with("gemm=97,", "");
  EXPECT_FALSE(read_rates(file(), kKey));
  write_with("\"gemm=97,", "\"gemm=97,gemm=97,");
  EXPECT_FALSE(read_rates(file(), kKey));
}

TEST_F(MachineRates, FilesOfAnotherMachineAreReadAsNone) {
  ASSERT_TRUE(keep_rates(file(), kKey, some_rates()));
  RatesKey other_cpu = kKey, other_simd = kKey, other_version = kKey, other_torch = kKey, other_cpus = kKey;
  other_cpu.cpu = "another CPU";
  other_simd.simd = "AVX3";
  other_version.version = "0.2.0";
  other_torch.torch = "2.0.0";
  other_cpus.cpus = 8;
  for (const RatesKey& key : {other_cpu, other_simd, other_version, other_torch, other_cpus})
    EXPECT_FALSE(read_rates(file(), key));
}

TEST_F(MachineRates, AFileThatOthersMayWriteOrThatIsALinkIsReadAsNoneAndReplaced) {
  ASSERT_TRUE(keep_rates(file(), kKey, some_rates()));
  ASSERT_EQ(::chmod(file().c_str(), 0666), 0);
  EXPECT_FALSE(read_rates(file(), kKey));
  ASSERT_TRUE(keep_rates(file(), kKey, some_rates()));
  EXPECT_TRUE(read_rates(file(), kKey)) << "the mode of the old file is not handed on";

  fs::rename(file(), folder_ / "elsewhere");
  fs::create_symlink(folder_ / "elsewhere", file());
  EXPECT_FALSE(read_rates(file(), kKey));
  ASSERT_TRUE(keep_rates(file(), kKey, some_rates()));
  EXPECT_FALSE(fs::is_symlink(file()));
}

TEST_F(MachineRates, APlaceThatCannotBeWrittenIsNoError) {
  write("");  // so there is a file where a folder would have to be
  EXPECT_FALSE(keep_rates(file() / "tempo" / "rates-v1.json", kKey, some_rates()));
}

TEST_F(MachineRates, FiguresSurviveTheirText) {
  const std::string text = to_figures(some_rates());
  EXPECT_EQ(to_figures(parse_figures(text)), text);
  EXPECT_EQ(message_of<InputError>([] { parse_figures("gemm=97,speed=3"); }).find("rates: got \"speed\", expected"),
            0U);
  EXPECT_EQ(message_of<InputError>([] { parse_figures("gemm=0"); }),
            "rates: got \"gemm=0\", expected a number from 1 to 10000");
  EXPECT_THROW(parse_figures(""), InputError);
  EXPECT_THROW(parse_figures(text + ","), InputError);
}

TEST_F(MachineRates, ABadSettingIsRefused) {
  RunConfig config;
  config.rates = "fast";
  EXPECT_THROW(resolve(config), InputError);
}

TEST_F(MachineRates, RatesAreMeasuredOnceAndThenReadFromTheFile) {
  RunConfig first, second, built_in, figures;
  settle_rates(first, file());
  EXPECT_NE(first.rates, kMeasuredRates);
  EXPECT_NO_THROW(parse_figures(first.rates)) << "every measured figure is in its range";
  ASSERT_TRUE(read_rates(file(), RatesKey::of_this_machine()));
  settle_rates(second, file());
  EXPECT_EQ(second.rates, first.rates);

  ASSERT_TRUE(keep_rates(file(), RatesKey::of_this_machine(), some_rates()));
  built_in.rates = kBuiltInRates;
  settle_rates(built_in, file());
  EXPECT_EQ(built_in.rates, kBuiltInRates);
  figures.rates = first.rates;
  settle_rates(figures, file());
  EXPECT_EQ(figures.rates, first.rates) << "a run that goes on keeps its rates, whatever the file says";
}

TEST_F(MachineRates, WithoutAFileRatesAreMeasuredAllTheSame) {
  RunConfig config;
  settle_rates(config, {});
  EXPECT_NO_THROW(parse_figures(config.rates));
}

TEST_F(MachineRates, TheRatesOfAConfigurationAreItsFiguresOrThoseBuiltIn) {
  const std::string built_in = to_figures(nn::TeeRates{});
  RunConfig config;
  EXPECT_EQ(to_figures(machine_model(config).tee), built_in) << "nothing is measured on the way";
  config.rates = kBuiltInRates;
  EXPECT_EQ(to_figures(machine_model(config).tee), built_in);
  config.rates = to_figures(some_rates());
  EXPECT_EQ(to_figures(machine_model(config).tee), config.rates);
}

}  // namespace machine_rates_test
}  // namespace tempo::train
