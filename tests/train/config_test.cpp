#include "train/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::train {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;
using testing::write_text;

TEST(Config, TomlRoundTrips) {
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

TEST(Config, BadTomlIsOneClearLine) {
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
  EXPECT_THAT(refusal("protection = \"xor\"\n"), HasSubstr("expected none|permuted|rotated"));
  EXPECT_THAT(refusal("conv-tile = 0\n"), HasSubstr("conv-tile"));
  EXPECT_THAT(refusal("conv-tile = \"half\"\n"), HasSubstr("full or a whole number"));
}

TEST(Config, WeightsResideWhereTheyCan) {
  const auto resolved = [](auto change) {
    RunConfig config;
    change(config);
    resolve(config);
    return config.blinding.weights;
  };
  EXPECT_EQ(resolved([](RunConfig&) {}), WeightPlacement::kResident);
  EXPECT_EQ(resolved([](RunConfig& c) { c.optimizer = Optimizer::kAdamW; }), WeightPlacement::kReturned);
  EXPECT_EQ(resolved([](RunConfig& c) {
              c.blinding.protection = Protection::kPermuted;
              c.allow_unprotected = true;
            }),
            WeightPlacement::kReturned);
  EXPECT_EQ(resolved([](RunConfig& c) { c.blinding.reuse = Reuse::kFresh; }), WeightPlacement::kReturned);
}

TEST(Config, SchemesThatDoNotProtectNeedTheFlagWhereWorkersSeeOperands) {
  for (const Protection protection : {Protection::kNone, Protection::kPermuted}) {
    RunConfig config;
    config.blinding.protection = protection;
    EXPECT_THROW(resolve(config), InputError);
    config.allow_unprotected = true;
    EXPECT_NO_THROW(resolve(config));
    config.allow_unprotected = false;
    config.workers = "local";
    EXPECT_NO_THROW(resolve(config));
  }
  RunConfig rotated;
  EXPECT_NO_THROW(resolve(rotated));
}

}  // namespace
}  // namespace tempo::train
