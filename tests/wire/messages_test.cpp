#include "wire/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "support/temp_folder.h"
#include "tempo/error.h"
#include "tempo/v1/worker.pb.h"

namespace tempo::wire {
namespace messages_test {

using contract::ElementType;
using contract::ProductKind;
using ::testing::HasSubstr;
using testing::message_of;

std::vector<std::byte> bytes_of(const google::protobuf::Message& message) {
  std::vector<std::byte> bytes(message.ByteSizeLong());
  message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size()));
  return bytes;
}

/// Why a message of a master is refused, once `change` was made to it.
template <typename Change>
std::string refusal(const Change& change) {
  v1::ClientMessage message;
  change(message);
  return message_of<ProtocolError>([&] { decode_client_message(bytes_of(message)); });
}
template <typename Change>
std::string server_refusal(const Change& change) {
  v1::ServerMessage message;
  change(message);
  return message_of<ProtocolError>([&] { decode_server_message(bytes_of(message)); });
}

contract::Product convolution() {
  return {.kind = ProductKind::kConv2d, .stride_h = 2, .stride_w = 3, .dilation_h = 4, .dilation_w = 5};
}

template <typename Message>
Message client_round_trip(const Message& message) {
  return std::get<Message>(decode_client_message(encode(ClientMessage(message))));
}
template <typename Operation>
Operation operation_round_trip(const Operation& operation) {
  const Submit back = client_round_trip(Submit{.number = 9, .operation = operation});
  EXPECT_EQ(back.number, 9U);
  return std::get<Operation>(back.operation);
}
template <typename Message>
Message server_round_trip(const Message& message) {
  return std::get<Message>(decode_server_message(encode(ServerMessage(message))));
}

void expect_equal(const contract::Product& a, const contract::Product& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.stride_h, b.stride_h);
  EXPECT_EQ(a.stride_w, b.stride_w);
  EXPECT_EQ(a.dilation_h, b.dilation_h);
  EXPECT_EQ(a.dilation_w, b.dilation_w);
}

TEST(Messages, MessagesOfMastersRoundTrip) {
  EXPECT_EQ(client_round_trip(Hello{.protocol = 1, .version = "0.1.0"}).version, "0.1.0");
  const Put put = client_round_trip(
      Put{.operand = 7, .spec = {.type = ElementType::kBFloat16, .shape = {2, 0, 3}}, .offset = 1U << 20});
  EXPECT_EQ(put.operand, 7U);
  EXPECT_EQ(put.spec, (contract::TensorSpec{ElementType::kBFloat16, {2, 0, 3}}));
  EXPECT_EQ(put.offset, 1U << 20);
  const contract::TensorSpec in_panels{ElementType::kFloat32, {3, 96}, {32, 512}};
  EXPECT_EQ(client_round_trip(Put{.operand = 7, .spec = in_panels}).spec, in_panels);
  EXPECT_EQ(client_round_trip(Chunk{.bytes = 5}).bytes, 5U);
  EXPECT_EQ(client_round_trip(Free{{1, 2, 3}}).operands, (std::vector<contract::OperandId>{1, 2, 3}));
  EXPECT_EQ(client_round_trip(Release{.offset = 64}).offset, 64U);
}

TEST(Messages, OperationsRoundTrip) {
  const auto forward = operation_round_trip(
      contract::Forward{.product = convolution(), .x = 1, .w = 2, .reply_type = ElementType::kBFloat16});
  expect_equal(forward.product, convolution());
  EXPECT_EQ(forward.reply_type, ElementType::kBFloat16);
  EXPECT_EQ(forward.reply_panels, contract::PanelLayout());
  const contract::PanelLayout panels{48, 65536};
  EXPECT_EQ(operation_round_trip(contract::Forward{.product = {}, .reply_panels = panels}).reply_panels, panels);
  EXPECT_EQ(operation_round_trip(contract::InputGradient{.product = {}, .reply_panels = panels}).reply_panels, panels);
  const auto dx = operation_round_trip(contract::InputGradient{.product = {.kind = ProductKind::kMatmul},
                                                               .dy = 3,
                                                               .w = 4,
                                                               .x_shape = {5, 6},
                                                               .reply_type = ElementType::kFloat64});
  expect_equal(dx.product, {.kind = ProductKind::kMatmul});
  EXPECT_EQ(dx.x_shape, (std::vector<int64_t>{5, 6}));
  const auto dw =
      operation_round_trip(contract::WeightGradient{.product = {}, .x = 1, .dy = 2, .w_shape = {3, 4}, .keep_as = 11});
  EXPECT_EQ(dw.keep_as, 11U);
  EXPECT_EQ(dw.w_shape, (std::vector<int64_t>{3, 4}));
  EXPECT_TRUE(dw.further.empty());
  const auto sliced = operation_round_trip(contract::WeightGradient{
      .product = convolution(), .x = 1, .dy = 2, .w_shape = {3, 4}, .further = {{.x = 5, .dy = 6}, {.x = 7, .dy = 8}}});
  ASSERT_EQ(sliced.further.size(), 2U);
  EXPECT_EQ(sliced.further[1].x, 7U);
  EXPECT_EQ(sliced.further[1].dy, 8U);
  for (const auto precision : {contract::ProductPrecision::kTf32, contract::ProductPrecision::kBFloat16})
    EXPECT_EQ(operation_round_trip(contract::Forward{.product = {.precision = precision}}).product.precision,
              precision);
  const auto update = operation_round_trip(contract::Update{.w = 1,
                                                            .velocity = 2,
                                                            .dw = 3,
                                                            .step = 4,
                                                            .learning_rate = 0.1,
                                                            .momentum = 0.9,
                                                            .weight_decay = 5e-4,
                                                            .gradient_scale = 0.5});
  EXPECT_EQ(update.step, 4U);
  EXPECT_EQ(update.weight_decay, 5e-4);
  EXPECT_EQ(operation_round_trip(contract::Fetch{.operand = 8}).operand, 8U);
  const auto join = operation_round_trip(
      contract::JoinGroup{.rendezvous = "worker.example:7000", .group = "8f3a", .rank = 255, .size = 256});
  EXPECT_EQ(join.rendezvous, "worker.example:7000");
  EXPECT_EQ(join.group, "8f3a");
  EXPECT_EQ(join.rank, 255U);
  EXPECT_EQ(join.size, 256U);
  EXPECT_EQ(operation_round_trip(contract::AllReduce{.operand = 9}).operand, 9U);
}

TEST(Messages, MessagesOfWorkersRoundTrip) {
  const Welcome welcome = server_round_trip(
      Welcome{.version = "LibTorch", .device = "cpu", .memory_bytes = 12, .collective = "[::1]:7000"});
  EXPECT_EQ(welcome.device, "cpu");
  EXPECT_EQ(welcome.memory_bytes, 12U);
  EXPECT_EQ(welcome.collective, "[::1]:7000");
  EXPECT_EQ(server_round_trip(Welcome{}).collective, "");
  EXPECT_EQ(server_round_trip(Reply{.number = 3, .spec = {.shape = {4}}, .offset = 128}).offset, 128U);
  EXPECT_EQ(server_round_trip(Chunk{.bytes = 5}).bytes, 5U);
  EXPECT_EQ(server_round_trip(Refusal{.number = 3, .reason = "no"}).reason, "no");
  EXPECT_EQ(server_round_trip(Goodbye{"over"}).reason, "over");
  EXPECT_EQ(server_round_trip(Freed{.offset = 64}).offset, 64U);
}

TEST(Messages, TextIsSentAsOneShortPrintableLine) {
  EXPECT_EQ(server_round_trip(Refusal{1, "line one\x1b\nline two"}).reason, "line one?");
  EXPECT_EQ(server_round_trip(Goodbye{std::string(5000, 'a')}).reason.size(), kMaxTextBytes);
}

TEST(Messages, BytesThatAreNoMessageAreRefused) {
  const std::vector<std::byte> garbage(10, std::byte{0xff});
  EXPECT_THAT(message_of<ProtocolError>([&] { decode_client_message(garbage); }),
              HasSubstr("10 bytes that are not a message"));
  EXPECT_THAT(message_of<ProtocolError>([&] { decode_server_message(garbage); }), HasSubstr("not a message"));
  EXPECT_THAT(message_of<ProtocolError>([&] { decode_client_message({}); }), HasSubstr("without a kind"));
  EXPECT_THAT(message_of<ProtocolError>([&] { decode_server_message({}); }), HasSubstr("without a kind"));
  const std::vector<std::byte> large(kMaxMessageBytes + 1);
  EXPECT_THAT(message_of<ProtocolError>([&] { decode_client_message(large); }), HasSubstr("expected at most 1048576"));
}

TEST(Messages, BadTensorSpecsAreRefused) {
  const auto put = [](auto&& change) {
    return refusal([&](v1::ClientMessage& m) {
      m.mutable_put()->mutable_spec()->set_type(v1::ELEMENT_TYPE_FLOAT32);
      change(*m.mutable_put()->mutable_spec());
    });
  };
  EXPECT_THAT(put([](v1::TensorSpec& s) { s.set_type(v1::ELEMENT_TYPE_UNSPECIFIED); }), HasSubstr("element type 0"));
  EXPECT_THAT(put([](v1::TensorSpec& s) { s.set_type(static_cast<v1::ElementType>(77)); }),
              HasSubstr("element type 77"));
  EXPECT_THAT(put([](v1::TensorSpec& s) { s.add_shape(-1); }), HasSubstr("a dimension of -1"));
  EXPECT_THAT(put([](v1::TensorSpec& s) {
                for (int i = 0; i < 9; ++i) s.add_shape(1);
              }),
              HasSubstr("9 dimensions, expected at most 8"));
  EXPECT_THAT(put([](v1::TensorSpec& s) { s.add_shape(int64_t{1} << 40); }), HasSubstr("tensor of more than"));
  EXPECT_THAT(put([](v1::TensorSpec& s) {
                for (int i = 0; i < 4; ++i) s.add_shape(int64_t{1} << 40);
              }),
              HasSubstr("tensor of more than"));
  EXPECT_THAT(put([](v1::TensorSpec& s) {
                s.add_shape(0);
                s.add_shape(std::numeric_limits<int64_t>::max());
              }),
              HasSubstr("tensor of more than"));
}

TEST(Messages, BadPanelsAreRefused) {
  const auto put = [](int64_t width, int64_t rows, int64_t columns) {
    return refusal([&](v1::ClientMessage& m) {
      v1::TensorSpec& spec = *m.mutable_put()->mutable_spec();
      spec.set_type(v1::ELEMENT_TYPE_FLOAT32);
      for (const int64_t extent : {int64_t{3}, columns}) spec.add_shape(extent);
      spec.mutable_panels()->set_width(width);
      spec.mutable_panels()->set_rows(rows);
    });
  };
  for (const int64_t width : {-16, 8, 17, 80}) EXPECT_THAT(put(width, 256, 960), HasSubstr("expected multiples of 16"));
  for (const int64_t rows : {-256, 0, 100, 65792}) EXPECT_THAT(put(16, rows, 960), HasSubstr("256 up to 65536"));
  EXPECT_THAT(put(0, 256, 960), HasSubstr("panels of 0 by 256 rows"));
  EXPECT_THAT(put(64, 256, 96), HasSubstr("whole panels"));
  EXPECT_THAT(refusal([](v1::ClientMessage& m) {
                v1::Forward& op = *m.mutable_submit()->mutable_operation()->mutable_forward();
                op.mutable_product()->set_kind(v1::PRODUCT_KIND_LINEAR);
                op.set_reply_type(v1::ELEMENT_TYPE_FLOAT32);
                op.mutable_reply_panels()->set_width(20);
              }),
              HasSubstr("panels of 20 by 0 rows"));
}

TEST(Messages, BadOperationsAreRefused) {
  const auto submit = [](auto&& change) {
    return refusal([&](v1::ClientMessage& m) { change(*m.mutable_submit()->mutable_operation()); });
  };
  EXPECT_THAT(submit([](v1::Operation&) {}), HasSubstr("operation without a kind"));
  EXPECT_THAT(submit([](v1::Operation& op) { op.mutable_forward(); }), HasSubstr("product 0"));
  const auto with_stride = [](int64_t stride, int64_t dilation) {
    return [=](v1::Operation& op) {
      v1::Product& p = *op.mutable_forward()->mutable_product();
      p.set_kind(v1::PRODUCT_KIND_CONV2D);
      p.set_stride_h(stride);
      p.set_stride_w(stride);
      p.set_dilation_h(dilation);
      p.set_dilation_w(dilation);
    };
  };
  EXPECT_THAT(submit(with_stride(0, 1)), HasSubstr("a stride of 0"));
  EXPECT_THAT(submit(with_stride(int64_t{1} << 21, 1)), HasSubstr("a stride of 2097152"));
  EXPECT_THAT(submit(with_stride(1, -3)), HasSubstr("a dilation of -3"));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(submit([&](v1::Operation& op) { op.mutable_update()->set_learning_rate(nan); }),
              HasSubstr("a learning rate that is not finite"));
  EXPECT_THAT(submit([&](v1::Operation& op) { op.mutable_update()->set_momentum(nan); }), HasSubstr("momentum"));
  EXPECT_THAT(submit([&](v1::Operation& op) { op.mutable_update()->set_weight_decay(nan); }),
              HasSubstr("weight decay"));
  EXPECT_THAT(submit([&](v1::Operation& op) { op.mutable_update()->set_gradient_scale(nan); }),
              HasSubstr("gradient scale"));
}

TEST(Messages, BadGroupsAreRefused) {
  const auto join = [](auto&& change) {
    return refusal([&](v1::ClientMessage& m) {
      v1::JoinGroup& group = *m.mutable_submit()->mutable_operation()->mutable_join_group();
      group.set_rendezvous("host:1");
      group.set_group("g");
      group.set_rank(1);
      group.set_size(2);
      change(group);
    });
  };
  EXPECT_THAT(join([](v1::JoinGroup& g) { g.set_size(0); }), HasSubstr("a group of 0, expected 1 to 256"));
  EXPECT_THAT(join([](v1::JoinGroup& g) { g.set_size(257); }), HasSubstr("a group of 257"));
  EXPECT_THAT(join([](v1::JoinGroup& g) { g.set_size(UINT32_MAX); }), HasSubstr("a group of 4294967295"));
  EXPECT_THAT(join([](v1::JoinGroup& g) { g.set_rank(2); }), HasSubstr("rank 2 in a group of 2"));
  EXPECT_THAT(join([](v1::JoinGroup& g) { g.set_rank(UINT32_MAX); }), HasSubstr("rank 4294967295"));
  EXPECT_THAT(join([](v1::JoinGroup& g) { g.clear_rendezvous(); }), HasSubstr("an empty rendezvous"));
  EXPECT_THAT(join([](v1::JoinGroup& g) { g.clear_group(); }), HasSubstr("an empty group name"));
  const std::string longest(contract::kMaxCollectiveText, 'x');
  EXPECT_THAT(join([&](v1::JoinGroup& g) { g.set_rendezvous(longest + "x"); }),
              HasSubstr("a rendezvous of 256 bytes, expected at most 255"));
  EXPECT_THAT(join([&](v1::JoinGroup& g) { g.set_group(longest + "x"); }), HasSubstr("a group name of 256 bytes"));
  EXPECT_THAT(join([](v1::JoinGroup& g) { g.set_group("a\nb"); }), HasSubstr("group name that is not printable"));
  EXPECT_THAT(join([](v1::JoinGroup& g) { g.set_rendezvous("\x1b[2J:1"); }), HasSubstr("rendezvous that is not"));
  EXPECT_EQ(operation_round_trip(contract::JoinGroup{longest, longest, 0, 1}).group, longest);
  EXPECT_THAT(server_refusal([&](v1::ServerMessage& m) { m.mutable_welcome()->set_collective(longest + "x"); }),
              HasSubstr("a collective address of 256 bytes"));
  EXPECT_THAT(server_refusal([&](v1::ServerMessage& m) { m.mutable_welcome()->set_collective("a\tb"); }),
              HasSubstr("collective address that is not printable"));
}

TEST(Messages, BadTextAndTooManyItemsAreRefused) {
  EXPECT_THAT(refusal([](v1::ClientMessage& m) { m.mutable_hello()->set_version("two\nlines"); }),
              HasSubstr("version that is not printable ASCII"));
  EXPECT_THAT(server_refusal([](v1::ServerMessage& m) { m.mutable_goodbye()->set_reason("\x1b[31m"); }),
              HasSubstr("reason that is not printable ASCII"));
  EXPECT_THAT(server_refusal([](v1::ServerMessage& m) { m.mutable_welcome()->set_device(std::string(2000, 'x')); }),
              HasSubstr("a device of 2000 bytes"));
  EXPECT_THAT(refusal([](v1::ClientMessage& m) {
                for (size_t i = 0; i <= kMaxFreed; ++i) m.mutable_free()->add_operands(1);
              }),
              HasSubstr("65537 operands to free"));
}

}  // namespace messages_test
}  // namespace tempo::wire
