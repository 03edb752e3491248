// Whole runs on tiny networks: loss curves, counts, resuming, and what happens when something is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

#include "base/file.h"
#include "nn/blinding_cases.h"
#include "seal/archive_writer.h"
#include "seal/key_file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "tempo/run.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/optimiser.h"

namespace tempo::train {
namespace run_test {

using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;

/// Runs of one folder share a key.
class RunTraining : public ::testing::Test {
 protected:
  void SetUp() override { seal::create_key(folder_ / "key"); }

  RunConfig config(const std::string& name, const std::string& model = "resnet20") const {
    RunConfig c;
    c.model = model;
    c.out = (folder_ / name).string();
    c.key = (folder_ / "key").string();
    c.steps = 10;
    c.batch_size = 16;
    c.image_size = 16;
    c.train_size = 83;  // the last batch of an epoch is short: 3 images
    c.test_size = 20;
    c.seed = 5;
    // ReLU and batch norm amplify rounding: at a rate of 0.02 plain training on one thread and on two, which add in
    // another order, are 3e-2 apart after ten steps. Small enough, and the comparison is of the mathematics.
    c.lr = 0.001;
    c.schedule = Schedule::kConstant;
    c.tee_threads = 1;
    c.offload = OffloadChoice::kAll;
    c.allow_unprotected = true;
    return c;
  }
  static RunSummary run(const RunConfig& c) { return run_training(c, {.quiet = true}); }
  Checkpoint checkpoint(const std::string& name) const {
    return load_checkpoint(checkpoint_path(folder_ / name), seal::load_key(folder_ / "key"));
  }

  /// Whether a whole run under these options shows what a single product does not (nn_parity_test has them all).
  static bool is_worth_a_run(const BlindingOptions& options) {
    if (options.protection == "oblique")
      return options.conv_tile == 1 && options.reuse == Reuse::kSplit && options.decoys == 0;
    return options.reuse != Reuse::kSplit;
  }

  void expect_follows_plain(RunConfig base) {
    base.out = (folder_ / "plain").string();
    base.workers = "local";
    const RunSummary plain = run(base);
    int number = 0;
    for (const BlindingOptions& options : testing::blinding_cases()) {
      if (base.optimizer == Optimizer::kAdamW && options.weights == WeightPlacement::kResident) continue;
      if (!is_worth_a_run(options)) continue;
      SCOPED_TRACE(describe(options));
      RunConfig blinded = base;
      blinded.workers = "inprocess:cpu";
      blinded.blinding = options;
      blinded.reuse = options.reuse;
      blinded.decoys = options.decoys;
      blinded.weights = options.weights;
      blinded.blinding.rekey_interval = 4;
      blinded.out = (folder_ / fmt::format("blinded{}", number++)).string();
      const RunSummary got = run(blinded);
      ASSERT_EQ(got.losses.size(), plain.losses.size());
      for (size_t i = 0; i < plain.losses.size(); ++i)
        EXPECT_NEAR(got.losses[i], plain.losses[i], 1e-3) << "step " << i;
      const double per_layer = options.weights == WeightPlacement::kResident ? 2
                               : options.reuse == Reuse::kFull               ? 3
                               : options.reuse != Reuse::kNone               ? 4
                                                                             : 6;
      EXPECT_EQ(got.encryptions_per_step, per_layer * static_cast<double>(got.offloaded_layers));
      EXPECT_GT(got.offloaded_flop_fraction, 0.9);
    }
  }

  /// A run that was extended after step 5 against one of other keys that was never broken: equal but for rounding.
  void expect_extended_run_agrees(RunConfig base) {
    base.steps = 8;
    base.out = (folder_ / "unbroken").string();
    run(base);
    RunConfig first = base;
    first.out = (folder_ / "extended").string();
    first.steps = 5;
    run(first);
    RunConfig next = resumed_config(first.out, first.key);
    next.steps = 8;
    EXPECT_EQ(run(next).steps, 8);
    const Checkpoint a = checkpoint("extended"), b = checkpoint("unbroken");
    for (const auto& [name, tensor] : a.tensors) {
      if (!name.starts_with("model.") || !name.ends_with("weight")) continue;
      const torch::Tensor& other = b.tensors.at(name);
      EXPECT_LT((tensor - other).norm().item<double>(), 1e-3 * other.norm().item<double>()) << name;
    }
  }

  TempFolder folder_;
};

TEST_F(RunTraining, OffloadedResNetFollowsThePlainLossCurve) { expect_follows_plain(config("plain")); }

TEST_F(RunTraining, OffloadedViTFollowsThePlainLossCurve) {
  RunConfig c = config("plain", "vit_tiny");
  c.optimizer = Optimizer::kAdamW;
  c.lr = 1e-4;
  c.batch_size = 8;
  expect_follows_plain(c);
}

/// Ten steps with activations kept in bfloat16 end near those with float32, and not on them.
TEST_F(RunTraining, TrainingWithBFloat16ActivationsStaysNearFloat32) {
  for (const std::string model : {"resnet20", "vit_tiny"}) {
    SCOPED_TRACE(model);
    RunConfig wide = config(model + "-wide", model), narrow = config(model + "-narrow", model);
    wide.workers = narrow.workers = "local";
    wide.steps = narrow.steps = 6;
    narrow.activations = ActivationStorage::kBFloat16;
    const double expected = run(wide).final_train_loss, got = run(narrow).final_train_loss;
    EXPECT_NE(got, expected);
    EXPECT_NEAR(got, expected, 1e-2 * expected);
  }
}

TEST_F(RunTraining, ShortLastBatchesAreTrained) {
  RunConfig c = config("short", "lenet");
  c.steps = 0;
  c.epochs = 2;
  c.image_size = 32;
  const RunSummary summary = run(c);
  EXPECT_EQ(summary.steps, 12);
  EXPECT_TRUE(summary.completed);
}

TEST_F(RunTraining, AnExtendedRunWithResidentWeightsEqualsOneLongRun) {
  RunConfig c = config("x");
  c.blinding.rekey_interval = 3;
  expect_extended_run_agrees(c);
}

TEST_F(RunTraining, AnExtendedRunWithAdamWEqualsOneLongRun) {
  RunConfig c = config("x");
  c.optimizer = Optimizer::kAdamW;
  c.lr = 1e-5;  // AdamW divides by the gradient's size: small gradients' rounding errors become steps
  expect_extended_run_agrees(c);
}

// One step, then on in two ways: in one go, and stopped and resumed after every step. Both hold one master secret.
TEST_F(RunTraining, AStoppedAndResumedRunReachesTheSameBits) {
  for (const bool resident : {true, false}) {
    RunConfig c = config(resident ? "resident" : "returned");
    c.steps = 6;
    c.weights = resident ? WeightPlacement::kResident : WeightPlacement::kReturned;
    if (resident) c.blinding.protection = "rotated";
    c.blinding.rekey_interval = 2;
    const std::atomic<bool> stop{true};
    EXPECT_FALSE(run_training(c, {.stop = &stop, .quiet = true}).completed);
    // A clean stop's keys go on once only: each continuation gets its own copy of the run.
    const auto fork = [&](const char* name) {
      std::filesystem::copy(c.out, c.out + name, std::filesystem::copy_options::recursive);
      return resumed_config(c.out + name, c.key);
    };
    EXPECT_TRUE(run(fork("-unbroken")).completed);
    RunConfig next = fork("-broken");
    int resumptions = 0;
    while (!run_training(next, {.stop = &stop, .quiet = true}).completed) {
      next = resumed_config(next.out, c.key);
      ++resumptions;
    }
    EXPECT_EQ(resumptions, 4);
    const std::string name = resident ? "resident" : "returned";
    const Checkpoint a = checkpoint(name + "-unbroken"), b = checkpoint(name + "-broken");
    for (const auto& [tensor_name, tensor] : a.tensors)
      EXPECT_TRUE(torch::equal(tensor, b.tensors.at(tensor_name))) << name << " " << tensor_name;
    EXPECT_TRUE(a.master.equals(b.master));
  }
}

// Steps that are done again with other operands must not meet the keys of the first time.
TEST_F(RunTraining, ResumingUnderOtherSettingsUsesOtherKeys) {
  RunConfig c = config("first");
  c.steps = 5;
  const std::atomic<bool> stop{true};
  run_training(c, {.stop = &stop, .quiet = true});
  const auto survive = [&](const char* name, auto change) {
    std::filesystem::copy(c.out, folder_ / name, std::filesystem::copy_options::recursive);
    RunConfig next = resumed_config(folder_ / name, c.key);
    change(next);
    run_training(next, {.stop = &stop, .quiet = true});
    return checkpoint(name).master.equals(checkpoint("first").master);
  };
  EXPECT_TRUE(survive("same", [](RunConfig&) {}));
  EXPECT_TRUE(survive("threads", [](RunConfig& n) { n.tee_threads = 2; }));
  EXPECT_FALSE(survive("steps", [](RunConfig& n) { n.steps = 6; }));
  EXPECT_FALSE(survive("lr", [](RunConfig& n) { n.lr *= 2; }));
  EXPECT_FALSE(survive("batch", [](RunConfig& n) { n.batch_size = 8; }));
  EXPECT_FALSE(survive("augment", [](RunConfig& n) { n.augment = false; }));
  EXPECT_FALSE(survive("protection", [](RunConfig& n) {
    n.blinding.protection = "permuted";
    n.allow_unprotected = true;
    n.weights = WeightPlacement::kReturned;
  }));
}

// After anything but a clean stop, steps beyond the checkpoint may have been run: their keys are spent.
TEST_F(RunTraining, KeysContinueFromACleanStopOnlyOnce) {
  RunConfig c = config("run");
  c.steps = 6;
  const std::atomic<bool> stop{true};
  run_training(c, {.stop = &stop, .quiet = true});
  EXPECT_EQ(checkpoint("run").numbers.at(kCleanStop), 1);
  RunConfig elsewhere = resumed_config(c.out, c.key);
  elsewhere.out = (folder_ / "first").string();
  run_training(elsewhere, {.stop = &stop, .quiet = true});
  EXPECT_EQ(checkpoint("run").numbers.at(kCleanStop), 0) << "the same keys could be used a second time";
  elsewhere.out = (folder_ / "second").string();
  run_training(elsewhere, {.stop = &stop, .quiet = true});
  EXPECT_TRUE(checkpoint("first").master.equals(checkpoint("run").master));
  EXPECT_FALSE(checkpoint("second").master.equals(checkpoint("run").master));
}

// Whoever can write the run directory can edit config.toml, but not what a resume goes by.
TEST_F(RunTraining, ResumingIgnoresAnEditedConfigFile) {
  RunConfig c = config("run");
  c.steps = 1;
  run(c);
  testing::write_text(folder_ / "run/config.toml", "protection = \"none\"\nallow-unprotected = true\n");
  const RunConfig resumed = resumed_config(c.out, c.key);
  EXPECT_EQ(resumed.blinding.protection, c.blinding.protection);
  EXPECT_EQ(resumed.steps, 1);
}

TEST_F(RunTraining, ARunResumesUnderOtherBlindingSettings) {
  RunConfig c = config("first");
  c.steps = 3;
  run(c);
  RunConfig next = c;
  next.resume = c.out;
  next.steps = 6;
  next.out = (folder_ / "returned").string();
  next.weights = WeightPlacement::kReturned;
  EXPECT_EQ(run(next).steps, 6);
  next.resume = next.out;
  next.steps = 8;
  next.out = (folder_ / "resident").string();
  next.blinding.protection = "rotated";
  next.weights = WeightPlacement::kResident;
  EXPECT_EQ(run(next).steps, 8);
}

TEST_F(RunTraining, ANonFiniteLossNamesTheLayerAndSavesNothing) {
  RunConfig c = config("good");
  c.steps = 1;
  run(c);
  export_run(c.out, folder_ / "w.safetensors", c.key);
  auto weights = read_plain_safetensors(folder_ / "w.safetensors");
  weights.at("layer2.1.conv1.weight").fill_(std::nan(""));
  write_plain_safetensors(weights, {}, folder_ / "bad.safetensors");
  RunConfig bad = config("bad");
  bad.init = (folder_ / "bad.safetensors").string();
  for (const char* workers : {"local", "inprocess:cpu"}) {
    bad.workers = workers;
    bad.out = (folder_ / fmt::format("bad-{}", workers[0])).string();
    EXPECT_THAT(message_of<RunError>([&] { run(bad); }), HasSubstr("not finite is layer2.1.conv1"));
    EXPECT_FALSE(std::filesystem::exists(checkpoint_path(bad.out)));
  }
}

TEST_F(RunTraining, ARunWithInfiniteWeightsDoesNotOverwriteItsCheckpoint) {
  RunConfig c = config("run");
  c.steps = 3;
  run(c);
  const auto before = read_file(checkpoint_path(c.out), size_t{1} << 30);
  RunConfig next = c;
  next.resume = c.out;
  next.steps = 40;
  next.lr = 1000;
  next.momentum = 0.9999;
  next.weight_decay = 1;  // each step multiplies the weights by a thousand
  next.train_size = 83 * 16;
  EXPECT_THAT(message_of<RunError>([&] { run(next); }), HasSubstr("not finite"));
  EXPECT_EQ(read_file(checkpoint_path(c.out), size_t{1} << 30), before);
}

TEST_F(RunTraining, CheckpointsOfAnotherModelKeyOrSizeAreRefused) {
  RunConfig c = config("run", "lenet");
  c.steps = 1;
  c.image_size = 32;
  run(c);
  const auto file = checkpoint_path(c.out);
  RunConfig other = c;
  other.resume = c.out;
  other.out = (folder_ / "other").string();
  other.steps = 2;
  other.model = "mlp";
  EXPECT_THAT(message_of<InputError>([&] { run(other); }),
              HasSubstr("holds lenet for 10 classes of 32x32 images, expected mlp for 10 classes of 32x32 images"));
  other.model = "lenet";
  seal::create_key(folder_ / "key2");
  other.key = (folder_ / "key2").string();
  EXPECT_THAT(message_of<InputError>([&] { run(other); }), HasSubstr("sealed under key"));
  other.key = c.key;
  const auto size = std::filesystem::file_size(file);
  std::filesystem::resize_file(file, size - 10);
  EXPECT_THROW(run(other), InputError);
  EXPECT_THROW(run_evaluation(c.out, "", c.key), InputError);
  EXPECT_FALSE(std::filesystem::exists(other.out)) << "a refused run left a folder behind";
}

TEST_F(RunTraining, ConfigurationsThatCannotWorkAreRefused) {
  const auto refusal = [&](auto change) {
    RunConfig c = config("refused");
    change(c);
    const std::string message = message_of<InputError>([&] { run(c); });
    EXPECT_FALSE(std::filesystem::exists(c.out)) << message;
    return message;
  };
  EXPECT_THAT(refusal([](RunConfig& c) { c.model = "resnet51"; }), HasSubstr("got \"resnet51\", expected one of"));
  EXPECT_THAT(refusal([](RunConfig& c) { c.batch_size = 1; }), HasSubstr("got 1 for a model with batch norm"));
  EXPECT_THAT(refusal([](RunConfig& c) { c.workers = "http://a:1"; }), HasSubstr("expected local, inprocess:"));
  EXPECT_THAT(refusal([](RunConfig& c) { c.integrity = "often"; }), HasSubstr("expected off, always"));
  for (const char* unprotected : {"none", "permuted"})
    EXPECT_THAT(refusal([&](RunConfig& c) {
                  c.blinding.protection = unprotected;
                  c.allow_unprotected = false;
                }),
                HasSubstr("--allow-unprotected"));
  EXPECT_THAT(refusal([](RunConfig& c) {
                c.blinding.protection = "permuted";
                c.allow_unprotected = true;
                c.weights = WeightPlacement::kResident;
              }),
              HasSubstr("orthogonal"));
  EXPECT_THAT(refusal([](RunConfig& c) {
                c.optimizer = Optimizer::kAdamW;
                c.weights = WeightPlacement::kResident;
              }),
              HasSubstr("elementwise"));
}

TEST_F(RunTraining, EvaluationAndPredictionUseTheCheckpoint) {
  RunConfig c = config("run", "lenet");
  c.steps = 12;
  c.image_size = 32;
  const RunSummary summary = run(c);
  const Evaluation evaluation = run_evaluation(c.out, "", c.key);
  EXPECT_EQ(evaluation.images, 20);
  EXPECT_NEAR(evaluation.accuracy, summary.test_accuracy.value(), 1e-9);
  std::vector<std::byte> records(2 * 3073);
  records[0] = std::byte{3};
  testing::write_bytes(folder_ / "images.bin", records);
  const auto predictions = run_prediction(c.out, folder_ / "images.bin", c.key);
  ASSERT_EQ(predictions.size(), 2U);
  EXPECT_EQ(predictions[0].label, predictions[1].label);  // both images are black
  EXPECT_GT(predictions[0].probability, 0.1);
}

/// As a service runs that keeps keys in memory only: no key file is named, none is made.
TEST_F(RunTraining, TrainingAndResumingWorkWithKeysInMemoryOnly) {
  std::vector<std::byte> records;
  for (int i = 0; i < 40; ++i) {
    records.push_back(static_cast<std::byte>(i % 10));
    records.insert(records.end(), 3072, static_cast<std::byte>(6 * i));
  }
  const SecretKey data_key = SecretKey::random(), sealing_key = SecretKey::random();
  seal::seal_files(folder_ / "data.sealed", data_key, {{"data_batch_1.bin", records}, {"test_batch.bin", records}});
  RunConfig c = config("run", "lenet");
  c.key = "";
  c.data = (folder_ / "data.sealed").string();
  c.steps = 3;
  const RunHooks hooks{.quiet = true, .data_key = &data_key, .sealing_key = &sealing_key};
  const std::string home = folder_.path().string();
  ::setenv("XDG_CONFIG_HOME", home.c_str(), 1);  // where the user's own key would be made
  EXPECT_EQ(run_training(c, hooks).steps, 3);
  EXPECT_EQ(load_checkpoint(checkpoint_path(c.out), sealing_key).step, 3);
  EXPECT_THROW(load_checkpoint(checkpoint_path(c.out), data_key), InputError);

  RunConfig next = resumed_config(c.out, sealing_key);
  EXPECT_EQ(next.key, "");
  EXPECT_EQ(next.data, c.data);
  next.steps = 5;
  EXPECT_EQ(run_training(next, hooks).steps, 5);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "tempo"));
  ::unsetenv("XDG_CONFIG_HOME");

  EXPECT_THAT(message_of<InputError>([&] { run_training(next, {.quiet = true, .sealing_key = &sealing_key}); }),
              HasSubstr("is a sealed archive, expected its key"));
  next.data = "synthetic";
  EXPECT_THAT(message_of<InputError>([&] { run_training(next, hooks); }), HasSubstr("expected a sealed archive"));
}

TEST(Optimiser, UpdatesEqualTorchsOptimisers) {
  for (const Optimizer kind : {Optimizer::kSgd, Optimizer::kAdamW}) {
    torch::manual_seed(1);
    const torch::Tensor start = torch::randn({5, 7});
    torch::Tensor ours = start.clone().requires_grad_(), theirs = start.clone().requires_grad_();
    RunConfig config;
    config.optimizer = kind;
    const auto optimiser = make_optimiser(config, {{"w", ours}});
    std::unique_ptr<torch::optim::Optimizer> reference;
    if (kind == Optimizer::kSgd)
      reference = std::make_unique<torch::optim::SGD>(
          std::vector<torch::Tensor>{theirs},
          torch::optim::SGDOptions(0.01).momentum(config.momentum).weight_decay(config.weight_decay));
    else
      reference = std::make_unique<torch::optim::AdamW>(
          std::vector<torch::Tensor>{theirs}, torch::optim::AdamWOptions(0.01).weight_decay(config.weight_decay));
    for (int i = 0; i < 20; ++i) {
      const torch::Tensor gradient = torch::randn({5, 7});
      ours.mutable_grad() = gradient.clone();
      theirs.mutable_grad() = gradient.clone();
      optimiser->step(0.01, 1);
      reference->step();
    }
    EXPECT_LT((ours - theirs).abs().max().item<double>(), 1e-6);
  }
}

TEST(LearningRate, TheRateWarmsUpThenFalls) {
  RunConfig config;
  config.lr = 1;
  config.warmup_steps = 4;
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 20), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate(config, 3, 20), 1);
  EXPECT_DOUBLE_EQ(learning_rate(config, 4, 20), 1);
  EXPECT_DOUBLE_EQ(learning_rate(config, 12, 20), 0.5);
  EXPECT_LT(learning_rate(config, 19, 20), 0.02);
}

}  // namespace run_test
}  // namespace tempo::train
