#include "train/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::train {
namespace config_test {

using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;
using testing::write_text;

TEST(Config, SettingsRoundTripThroughToml) {
  const TempFolder folder;
  RunConfig config;
  config.model = "vit \"tiny\"";
  config.lr = 0.125;
  config.blinding.conv_tile = 0;
  config.blinding.row_rounds = 3;
  config.augment = false;
  config.seed = 42;
  config.weights = WeightPlacement::kReturned;
  write_text(folder / "a.toml", to_toml(config));
  RunConfig again;
  apply_settings(again, read_settings(folder / "a.toml"), "");
  EXPECT_EQ(to_toml(again), to_toml(config));
  EXPECT_EQ(again.model, config.model);
  EXPECT_EQ(again.seed, config.seed);
}

TEST(Config, DefaultsAndEverySettingWhoseZeroHasANameRoundTripThroughToml) {
  const TempFolder folder;
  RunConfig zeros;
  zeros.blinding.conv_tile = 0;
  zeros.blinding.row_rounds = 0;
  zeros.blinding.row_group = 0;
  zeros.blinding.slices = 0;
  RunConfig numbers;
  numbers.blinding.row_group = 4096;
  for (const RunConfig& config : {RunConfig(), zeros, numbers}) {
    write_text(folder / "a.toml", to_toml(config));
    RunConfig again;
    apply_settings(again, read_settings(folder / "a.toml"), "");
    EXPECT_EQ(to_toml(again), to_toml(config));
    EXPECT_EQ(again.blinding.row_group, config.blinding.row_group);
  }
}

TEST(Config, BadTomlIsRefusedWithOneClearLine) {
  const TempFolder folder;
  const auto refusal = [&](const char* text) {
    write_text(folder / "a.toml", text);
    return message_of<InputError>([&] {
      RunConfig config;
      apply_settings(config, read_settings(folder / "a.toml"), "a.toml: ");
    });
  };
  EXPECT_THAT(refusal("model = \n"), HasSubstr("line 1"));
  EXPECT_THAT(refusal("modle = \"resnet20\"\n"), HasSubstr("unknown key \"modle\""));
  EXPECT_THAT(refusal("[train]\nlr = 1\n"), HasSubstr("unknown key \"train\""));
  EXPECT_THAT(refusal("lr = [1, 2]\n"), HasSubstr("not a plain value"));
  EXPECT_THAT(refusal("lr = \"fast\"\n"), HasSubstr("a.toml: lr: got \"fast\", expected a number"));
  EXPECT_THAT(refusal("batch-size = 1.5\n"), HasSubstr("expected a whole number"));
  EXPECT_THAT(refusal("protection = \"xor\"\n"), HasSubstr("expected none|permuted|rotated|oblique"));
  EXPECT_THAT(refusal("conv-tile = 0\n"), HasSubstr("conv-tile"));
  EXPECT_THAT(refusal("conv-tile = \"half\"\n"), HasSubstr("full or a whole number"));
}

TEST(Config, TextSettingsMustBeUtf8AndSurviveTheFile) {
  const TempFolder folder;
  for (const Field& field : fields()) {
    RunConfig config;
    if (!field.is_text) continue;
    SCOPED_TRACE(field.name);
    EXPECT_THROW(field.set(config, "c\xE9"), InputError);
    EXPECT_THROW(field.set(config, std::string("c\0x", 3)), InputError);
  }
  RunConfig config;
  for (const char* path :
       {"a\nb", "\ntwo\nlines 'and\" quotes\t\x1b", "back\\slash", "a'b", "a\"b", "tab\t", "caf\xC3\xA9", "\x7F"}) {
    SCOPED_TRACE(path);
    config.data = path;
    const std::string toml = to_toml(config);
    RunConfig again;
    apply_settings(again, parse_settings(toml, "a.toml"), "");
    EXPECT_EQ(again.data, config.data);
    EXPECT_EQ(
        std::count(toml.begin(), toml.end(), '\n'),
        std::count_if(fields().begin(), fields().end(), [&](const Field& field) { return !field.get(config).empty(); }))
        << "not one line a setting";
  }
  config.out = "c\xE9";
  EXPECT_EQ(message_of<InputError>([&] { resolve(config); }), "out: byte 2 of 2 is not UTF-8, expected text in UTF-8");
  EXPECT_EQ(message_of<InputError>([] { parse_settings(std::string("epochs = 1\0junk", 15), "a.toml"); }),
            "a.toml: byte 11 of 15 is NUL, expected text in UTF-8");
}

TEST(Config, EveryNumberHasARangeAndOneNotation) {
  for (const Field& field : fields()) {
    RunConfig config;
    const std::string usual = field.get(config);
    const bool is_number = !field.is_text && !field.is_switch;
    if (!is_number) continue;
    SCOPED_TRACE(field.name);
    for (const char* bad : {"", "-1", "nan", "inf", "1e999", "0x10", " 5", "5 ", "+5", "5x", "99999999999999999999"})
      EXPECT_THROW(field.set(config, bad), InputError) << bad;
    EXPECT_EQ(field.get(config), usual);
  }
}

TEST(Config, WeightsAreResidentByDefaultWhereSettingsAllowIt) {
  const auto resolved = [](auto change) {
    RunConfig config;
    config.blinding.protection = "rotated";
    change(config);
    resolve(config);
    return config.blinding.weights;
  };
  EXPECT_EQ(resolved([](RunConfig&) {}), WeightPlacement::kResident);
  EXPECT_EQ(resolved([](RunConfig& c) { c.blinding.protection = RunConfig().blinding.protection; }),
            WeightPlacement::kReturned);
  EXPECT_EQ(resolved([](RunConfig& c) { c.optimizer = Optimizer::kAdamW; }), WeightPlacement::kReturned);
  EXPECT_EQ(resolved([](RunConfig& c) {
              c.blinding.protection = "permuted";
              c.allow_unprotected = true;
            }),
            WeightPlacement::kReturned);
  EXPECT_EQ(resolved([](RunConfig& c) { c.reuse = Reuse::kFresh; }), WeightPlacement::kReturned);
}

TEST(Config, ReuseIsSplitByDefaultUnderObliqueKeys) {
  for (const auto& [protection, reuse] : {std::pair{"oblique", Reuse::kSplit}, {"rotated", Reuse::kFull}}) {
    RunConfig config;
    config.blinding.protection = protection;
    resolve(config);
    EXPECT_EQ(config.blinding.reuse, reuse);
  }
}

TEST(Config, UnprotectedSchemesNeedTheFlagUnlessEverythingStaysLocal) {
  for (const char* protection : {"none", "permuted"}) {
    RunConfig config;
    config.blinding.protection = protection;
    EXPECT_THROW(resolve(config), InputError);
    config.allow_unprotected = true;
    EXPECT_NO_THROW(resolve(config));
    config.allow_unprotected = false;
    config.workers = "local";
    EXPECT_NO_THROW(resolve(config));
  }
  RunConfig usual;
  EXPECT_NO_THROW(resolve(usual));
}

}  // namespace config_test
}  // namespace tempo::train
