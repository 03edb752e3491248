#include "wire/reply_size.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "wire/messages.h"

namespace tempo::wire {
namespace reply_size_test {

using namespace contract;

uint64_t bytes(const Operation& operation, const std::map<OperandId, TensorSpec>& stored) {
  return max_reply_bytes(operation, [&](OperandId id) {
    const auto found = stored.find(id);
    return found == stored.end() ? nullptr : &found->second;
  });
}
TensorSpec spec(std::vector<int64_t> shape, ElementType type = ElementType::kFloat32) {
  return {.type = type, .shape = std::move(shape)};
}

TEST(ReplySize, TheLimitEqualsTheSizeOfTheResult) {
  const Product linear, matmul = {.kind = ProductKind::kMatmul},
                        conv = {.kind = ProductKind::kConv2d, .stride_h = 2, .dilation_w = 2};
  EXPECT_EQ(bytes(Forward{.product = linear, .x = 1, .w = 2}, {{1, spec({64, 36})}, {2, spec({5, 3, 3, 4})}}),
            4 * 64 * 5U);
  EXPECT_EQ(bytes(Forward{.product = matmul, .x = 1, .w = 2, .reply_type = ElementType::kBFloat16},
                  {{1, spec({2, 3, 4})}, {2, spec({2, 4, 7})}}),
            2 * 2 * 3 * 7U);
  EXPECT_EQ(bytes(Forward{.product = conv, .x = 1, .w = 2}, {{1, spec({8, 9, 9, 16})}, {2, spec({24, 3, 3, 16})}}),
            4 * 8 * 4 * 5 * 24U);
  EXPECT_EQ(bytes(InputGradient{.product = linear, .dy = 1, .w = 2, .x_shape = {1}},
                  {{1, spec({64, 5})}, {2, spec({5, 36})}}),
            4 * 64 * 36U);
  EXPECT_EQ(bytes(InputGradient{.product = conv, .dy = 1, .w = 2, .x_shape = {8, 9, 9, 16}},
                  {{1, spec({8, 4, 5, 24})}, {2, spec({24, 3, 3, 16})}}),
            4 * 8 * 9 * 9 * 16U);
  const std::map<OperandId, TensorSpec> gradients = {{1, spec({64, 36})}, {2, spec({64, 5})}};
  EXPECT_EQ(bytes(WeightGradient{.product = linear, .x = 1, .dy = 2, .w_shape = {5, 3, 3, 4}}, gradients), 4 * 36 * 5U);
  EXPECT_EQ(bytes(WeightGradient{.product = linear, .x = 1, .dy = 2, .w_shape = {5, 36}, .keep_as = 3}, gradients), 8U);
  EXPECT_EQ(bytes(Fetch{1}, {{1, spec({3}, ElementType::kFloat64)}}), 24U);
  EXPECT_EQ(bytes(Update{.w = 1}, {{1, spec({3})}}), 0U);
  EXPECT_EQ(bytes(JoinGroup{"host:1", "g", 0, 1}, {}), 0U);
  EXPECT_EQ(bytes(AllReduce{1}, {{1, spec({300})}}), 8U);
}

TEST(ReplySize, UnknownOrMisfittingOperandsAllowNoReply) {
  EXPECT_EQ(bytes(Forward{.product = {}, .x = 1, .w = 2}, {{1, spec({2, 2})}}), 0U);
  EXPECT_EQ(bytes(Forward{.product = {}, .x = 1, .w = 2}, {{1, spec({})}, {2, spec({2, 2})}}), 0U);
  EXPECT_EQ(bytes(Forward{.product = {.kind = ProductKind::kConv2d}, .x = 1, .w = 1}, {{1, spec({2, 2})}}), 0U);
  EXPECT_EQ(bytes(Forward{.product = {.kind = ProductKind::kConv2d}, .x = 1, .w = 2},
                  {{1, spec({1, 2, 2, 1})}, {2, spec({1, 3, 3, 1})}}),
            0U);
  EXPECT_EQ(bytes(InputGradient{.product = {.kind = ProductKind::kMatmul}, .dy = 1, .w = 1}, {{1, spec({2})}}), 0U);
  EXPECT_EQ(bytes(InputGradient{.product = {}, .dy = 1, .w = 1}, {{1, spec({0, 2})}}), 0U);
  EXPECT_EQ(bytes(Fetch{1}, {}), 0U);
  EXPECT_EQ(bytes(AllReduce{1}, {}), 0U);
}

TEST(ReplySize, SizesSaturateInsteadOfOverflowing) {
  const int64_t many = int64_t{1} << 32;
  EXPECT_GT(bytes(Forward{.product = {}, .x = 1, .w = 1}, {{1, spec({many, 1})}}), kMaxTensorBytes);
  EXPECT_GT(saturated_bytes(spec({many, many, many, many})), kMaxTensorBytes);
  EXPECT_EQ(saturated_bytes(spec({many, many, many, 0})), 0U);
}

}  // namespace reply_size_test
}  // namespace tempo::wire
