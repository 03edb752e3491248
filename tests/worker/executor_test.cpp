#include "worker/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::worker {
namespace executor_test {

using contract::Buffer;
using ::testing::HasSubstr;
using testing::message_of;

Buffer filled(std::vector<int64_t> shape, float value) {
  Buffer buffer = Buffer::allocate({.shape = std::move(shape)});
  for (int64_t i = 0; i < buffer.spec().elements(); ++i) std::memcpy(buffer.data() + 4 * i, &value, sizeof value);
  return buffer;
}

float first(const Buffer& buffer) {
  float value = 0;
  std::memcpy(&value, buffer.data(), sizeof value);
  return value;
}

TEST(Executor, FreedOperandsTakeNoMemory) {
  Executor executor("cpu");
  executor.put(1, filled({4, 8}, 1));
  executor.put(2, filled({3, 8}, 1));
  EXPECT_EQ(executor.stored_bytes(), 4U * (32 + 24));
  executor.free({1, 2, 77});
  EXPECT_EQ(executor.stored_bytes(), 0U);
}

TEST(Executor, OperationsOnMissingOrMisfittingOperandsAreRefused) {
  Executor executor("cpu");
  executor.put(1, filled({4, 8}, 1));
  executor.put(2, filled({3, 9}, 1));
  EXPECT_THAT(message_of<ProtocolError>([&] { executor.run(contract::Forward{.product = {}, .x = 1, .w = 9}); }),
              HasSubstr("operand 9 is not stored"));
  EXPECT_THAT(message_of<ProtocolError>([&] { executor.run(contract::Forward{.product = {}, .x = 1, .w = 2}); }),
              HasSubstr("worker: forward refused"));
  EXPECT_THROW(Executor("cuda:9999"), InputError);
  EXPECT_THROW(Executor("abacus"), InputError);
}

TEST(Executor, AnUpdateOfTheSameStepIsAppliedOnce) {
  Executor executor("cpu");
  executor.put(1, filled({2, 2}, 1));
  executor.put(2, filled({2, 2}, 0));
  executor.put(3, filled({2, 2}, 0.5F));
  const contract::Update update{.w = 1, .velocity = 2, .dw = 3, .step = 4, .learning_rate = 1, .momentum = 0};
  executor.run(update);
  executor.run(update);
  EXPECT_FLOAT_EQ(first(executor.run(contract::Fetch{1})), 0.5F);
  contract::Update older = update;
  older.step = 3;
  executor.run(older);
  EXPECT_FLOAT_EQ(first(executor.run(contract::Fetch{1})), 0.5F);
  contract::Update newer = update;
  newer.step = 5;
  executor.run(newer);
  EXPECT_FLOAT_EQ(first(executor.run(contract::Fetch{1})), 0);
}

TEST(Executor, AGradientIsSummedOverPartsOfRows) {
  Executor executor("cpu");
  executor.put(1, filled({5, 2}, 1));
  executor.put(2, filled({5, 3}, 2));
  executor.put(3, filled({4, 2}, 3));
  executor.put(4, filled({4, 3}, 1));
  executor.put(5, filled({4, 6}, 1));
  contract::WeightGradient gradient{
      .product = {}, .x = 1, .dy = 2, .w_shape = {3, 2}, .further = {{.x = 3, .dy = 4}, {.x = 3, .dy = 4}}};
  EXPECT_FLOAT_EQ(first(executor.run(gradient)), 5 * 2 + 2 * 4 * 3);
  gradient.further = {{.x = 5, .dy = 4}};
  EXPECT_THAT(message_of<ProtocolError>([&] { executor.run(gradient); }), HasSubstr("parts of rows of another shape"));
}

TEST(Executor, OperandsAndRepliesMayLieInPanels) {
  const contract::PanelLayout panels{16, 256};
  Buffer x = Buffer::allocate({.shape = {300, 2, 32}, .panels = panels}), w = Buffer::allocate({.shape = {48, 2, 32}});
  for (Buffer* buffer : {&x, &w})
    for (int64_t i = 0; i < buffer->spec().elements(); ++i) {
      const auto value = static_cast<float>(i * 2654435761U % 1000) / 1000 - 0.5F;
      std::memcpy(buffer->data() + 4 * i, &value, sizeof value);
    }
  Executor executor("cpu");
  executor.put(1, x);
  executor.put(2, contract::row_major(x));
  const Buffer again = executor.run(contract::Fetch{1}), rows = contract::row_major(x);
  EXPECT_EQ(again.spec(), rows.spec());
  EXPECT_EQ(std::memcmp(again.data(), rows.data(), rows.bytes()), 0);

  Buffer linear = Buffer::allocate({.shape = {300, 64}, .panels = panels});
  std::memcpy(linear.data(), x.data(), x.bytes());
  executor.put(4, linear);
  executor.put(5, contract::row_major(linear));
  executor.put(6, w);
  const Buffer want = executor.run(contract::Forward{.product = {}, .x = 5, .w = 6});
  for (const bool has_place : {false, true}) {
    Buffer there;
    const auto place = [&](const contract::TensorSpec& spec) -> std::optional<Buffer> {
      if (!has_place) return std::nullopt;
      there = Buffer::allocate(spec);
      return there;
    };
    const Started got = executor.start(contract::Forward{.product = {}, .x = 4, .w = 6, .reply_panels = panels}, place);
    EXPECT_EQ(got.result.spec(), (contract::TensorSpec{contract::ElementType::kFloat32, {300, 48}, panels}));
    const Buffer got_rows = contract::row_major(got.result);
    EXPECT_EQ(std::memcmp(got_rows.data(), want.data(), want.bytes()), 0);
  }
  EXPECT_THAT(message_of<ProtocolError>([&] {
                executor.run(contract::Forward{.product = {}, .x = 4, .w = 6, .reply_panels = {32, 256}});
              }),
              HasSubstr("whole panels"));
}

TEST(Executor, AResultIsWrittenIntoTheMemoryGivenForIt) {
  Executor executor("cpu");
  executor.put(1, filled({4, 8}, 1));
  executor.put(2, filled({3, 8}, 2));
  const Buffer there = Buffer::allocate({.type = contract::ElementType::kBFloat16, .shape = {4, 3}});
  const Started started =
      executor.start(contract::Forward{.product = {}, .x = 1, .w = 2, .reply_type = contract::ElementType::kBFloat16},
                     [&](const contract::TensorSpec& result) {
                       EXPECT_EQ(result, there.spec());
                       return there;
                     });
  EXPECT_FALSE(started.completion);
  EXPECT_EQ(started.result.data(), there.data());
  uint16_t bits = 0;
  std::memcpy(&bits, there.data() + 22, sizeof bits);
  EXPECT_EQ(bits, 0x4180) << "16 in bfloat16";
}

TEST(Executor, TheReplyToAKeptGradientIsItsSquaredNorm) {
  Executor executor("cpu");
  executor.put(1, filled({5, 2}, 1));
  executor.put(2, filled({5, 3}, 2));
  const Buffer reply =
      executor.run(contract::WeightGradient{.product = {}, .x = 1, .dy = 2, .w_shape = {3, 2}, .keep_as = 7});
  ASSERT_EQ(reply.spec(), (contract::TensorSpec{contract::ElementType::kFloat64, {1}}));
  double squared = 0;
  std::memcpy(&squared, reply.data(), sizeof squared);
  EXPECT_DOUBLE_EQ(squared, 6 * 100.0);
  EXPECT_EQ(executor.run(contract::Fetch{7}).spec().shape, (std::vector<int64_t>{3, 2}));
}

}  // namespace executor_test
}  // namespace tempo::worker
