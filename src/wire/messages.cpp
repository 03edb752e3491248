#include "wire/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tempo/error.h"
#include "tempo/v1/worker.pb.h"

namespace tempo::wire {

using contract::ElementType;
using contract::Operation;
using contract::ProductKind;
using contract::TensorSpec;

namespace {

// --- What goes out --------------------------------------------------------------------------------------------------

v1::ElementType to_proto(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return v1::ELEMENT_TYPE_FLOAT32;
    case ElementType::kFloat64:
      return v1::ELEMENT_TYPE_FLOAT64;
    case ElementType::kBFloat16:
      return v1::ELEMENT_TYPE_BFLOAT16;
  }
  return v1::ELEMENT_TYPE_UNSPECIFIED;
}

/// Row-major tensors have no layout message.
template <typename Proto>
void write(const contract::PanelLayout& panels, Proto& out, v1::PanelLayout* (Proto::*mutable_panels)()) {
  if (!panels.is_set()) return;
  v1::PanelLayout& layout = *(out.*mutable_panels)();
  layout.set_width(panels.width);
  layout.set_rows(panels.rows);
}

void write(const TensorSpec& spec, v1::TensorSpec& out) {
  out.set_type(to_proto(spec.type));
  out.mutable_shape()->Add(spec.shape.begin(), spec.shape.end());
  write(spec.panels, out, &v1::TensorSpec::mutable_panels);
}

void write(const contract::Product& product, v1::Product& out) {
  out.set_precision(static_cast<v1::ProductPrecision>(product.precision));
  switch (product.kind) {
    case ProductKind::kLinear:
      return out.set_kind(v1::PRODUCT_KIND_LINEAR);
    case ProductKind::kMatmul:
      return out.set_kind(v1::PRODUCT_KIND_MATMUL);
    case ProductKind::kConv2d:
      out.set_kind(v1::PRODUCT_KIND_CONV2D);
      out.set_stride_h(product.stride_h);
      out.set_stride_w(product.stride_w);
      out.set_dilation_h(product.dilation_h);
      out.set_dilation_w(product.dilation_w);
  }
}

void write(const contract::Forward& op, v1::Operation& out) {
  v1::Forward& forward = *out.mutable_forward();
  write(op.product, *forward.mutable_product());
  forward.set_x(op.x);
  forward.set_w(op.w);
  forward.set_reply_type(to_proto(op.reply_type));
  write(op.reply_panels, forward, &v1::Forward::mutable_reply_panels);
}
void write(const contract::InputGradient& op, v1::Operation& out) {
  v1::InputGradient& gradient = *out.mutable_input_gradient();
  write(op.product, *gradient.mutable_product());
  gradient.set_dy(op.dy);
  gradient.set_w(op.w);
  gradient.mutable_x_shape()->Add(op.x_shape.begin(), op.x_shape.end());
  gradient.set_reply_type(to_proto(op.reply_type));
  write(op.reply_panels, gradient, &v1::InputGradient::mutable_reply_panels);
}
void write(const contract::WeightGradient& op, v1::Operation& out) {
  v1::WeightGradient& gradient = *out.mutable_weight_gradient();
  write(op.product, *gradient.mutable_product());
  gradient.set_x(op.x);
  gradient.set_dy(op.dy);
  gradient.mutable_w_shape()->Add(op.w_shape.begin(), op.w_shape.end());
  gradient.set_reply_type(to_proto(op.reply_type));
  gradient.set_keep_as(op.keep_as);
  for (const contract::RowPart& part : op.further) {
    v1::RowPart& further = *gradient.add_further();
    further.set_x(part.x);
    further.set_dy(part.dy);
  }
}
void write(const contract::Update& op, v1::Operation& out) {
  v1::Update& update = *out.mutable_update();
  update.set_w(op.w);
  update.set_velocity(op.velocity);
  update.set_dw(op.dw);
  update.set_step(op.step);
  update.set_learning_rate(op.learning_rate);
  update.set_momentum(op.momentum);
  update.set_weight_decay(op.weight_decay);
  update.set_gradient_scale(op.gradient_scale);
}
void write(const contract::Fetch& op, v1::Operation& out) { out.mutable_fetch()->set_operand(op.operand); }
void write(const contract::JoinGroup& op, v1::Operation& out) {
  v1::JoinGroup& join = *out.mutable_join_group();
  join.set_rendezvous(op.rendezvous);
  join.set_group(op.group);
  join.set_rank(op.rank);
  join.set_size(op.size);
}
void write(const contract::AllReduce& op, v1::Operation& out) { out.mutable_all_reduce()->set_operand(op.operand); }

/// As a peer accepts it: one line, printable, not too long. A library's message may be anything.
std::string cut(const std::string& text) {
  std::string line = text.substr(0, std::min(kMaxTextBytes, text.find('\n')));
  for (char& c : line) c = c >= 0x20 && c < 0x7f ? c : '?';
  return line;
}

void write(const Hello& m, v1::ClientMessage& out) {
  out.mutable_hello()->set_protocol(m.protocol);
  out.mutable_hello()->set_version(cut(m.version));
}
void write(const Put& m, v1::ClientMessage& out) {
  out.mutable_put()->set_operand(m.operand);
  write(m.spec, *out.mutable_put()->mutable_spec());
  out.mutable_put()->set_offset(m.offset);
}
void write(const Chunk& m, v1::ClientMessage& out) { out.mutable_chunk()->set_bytes(m.bytes); }
void write(const Free& m, v1::ClientMessage& out) {
  out.mutable_free()->mutable_operands()->Add(m.operands.begin(), m.operands.end());
}
void write(const Submit& m, v1::ClientMessage& out) {
  out.mutable_submit()->set_number(m.number);
  std::visit([&](const auto& op) { write(op, *out.mutable_submit()->mutable_operation()); }, m.operation);
}
void write(const Release& m, v1::ClientMessage& out) { out.mutable_release()->set_offset(m.offset); }

void write(const Welcome& m, v1::ServerMessage& out) {
  v1::Welcome& welcome = *out.mutable_welcome();
  welcome.set_protocol(m.protocol);
  welcome.set_version(cut(m.version));
  welcome.set_device(cut(m.device));
  welcome.set_memory_bytes(m.memory_bytes);
  welcome.set_collective(cut(m.collective));
}
void write(const Reply& m, v1::ServerMessage& out) {
  out.mutable_reply()->set_number(m.number);
  write(m.spec, *out.mutable_reply()->mutable_spec());
  out.mutable_reply()->set_offset(m.offset);
}
void write(const Chunk& m, v1::ServerMessage& out) { out.mutable_chunk()->set_bytes(m.bytes); }
void write(const Refusal& m, v1::ServerMessage& out) {
  out.mutable_refusal()->set_number(m.number);
  out.mutable_refusal()->set_reason(cut(m.reason));
}
void write(const Goodbye& m, v1::ServerMessage& out) { out.mutable_goodbye()->set_reason(cut(m.reason)); }
void write(const Freed& m, v1::ServerMessage& out) { out.mutable_freed()->set_offset(m.offset); }

template <typename Proto, typename Message>
std::vector<std::byte> encode_as(const Message& message) {
  Proto proto;
  std::visit([&](const auto& kind) { write(kind, proto); }, message);
  std::vector<std::byte> bytes(proto.ByteSizeLong());
  proto.SerializeToArray(bytes.data(), static_cast<int>(bytes.size()));
  return bytes;
}

// --- What comes in: hostile -----------------------------------------------------------------------------------------

ElementType element_type(v1::ElementType type) {
  switch (type) {
    case v1::ELEMENT_TYPE_FLOAT32:
      return ElementType::kFloat32;
    case v1::ELEMENT_TYPE_FLOAT64:
      return ElementType::kFloat64;
    case v1::ELEMENT_TYPE_BFLOAT16:
      return ElementType::kBFloat16;
    default:
      throw ProtocolError(fmt::format("wire: got element type {}, expected 1 to 3", static_cast<int>(type)));
  }
}

std::vector<int64_t> read_shape(const google::protobuf::RepeatedField<int64_t>& shape, ElementType type) {
  if (static_cast<size_t>(shape.size()) > kMaxDimensions)
    throw ProtocolError(fmt::format("wire: got {} dimensions, expected at most {}", shape.size(), kMaxDimensions));
  uint64_t bytes = contract::element_bytes(type);
  for (const int64_t extent : shape) {
    if (extent < 0) throw ProtocolError(fmt::format("wire: got a dimension of {}, expected at least 0", extent));
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(std::max<int64_t>(extent, 1)), &bytes) ||
        bytes > kMaxTensorBytes)
      throw ProtocolError(fmt::format("wire: got a tensor of more than {} bytes", kMaxTensorBytes));
  }
  return {shape.begin(), shape.end()};
}

contract::PanelLayout read(const v1::PanelLayout& panels) { return {panels.width(), panels.rows()}; }

TensorSpec read(const v1::TensorSpec& spec) {
  const ElementType type = element_type(spec.type());
  TensorSpec known{type, read_shape(spec.shape(), type), read(spec.panels())};
  contract::check_panels(known);
  return known;
}

/// The layout of a reply whose last dimension is not known yet.
contract::PanelLayout read_reply_panels(const v1::PanelLayout& panels) {
  const contract::PanelLayout layout = read(panels);
  contract::check_panels({.shape = {1, layout.width}, .panels = layout});
  return layout;
}

int64_t read_step(int64_t value, const char* what) {
  constexpr int64_t kMost = 1 << 20;
  if (value < 1 || value > kMost)
    throw ProtocolError(fmt::format("wire: got a {} of {}, expected 1 to {}", what, value, kMost));
  return value;
}

contract::ProductPrecision read_precision(v1::ProductPrecision precision) {
  switch (precision) {
    case v1::PRODUCT_PRECISION_FLOAT32:
      return contract::ProductPrecision::kFloat32;
    case v1::PRODUCT_PRECISION_TF32:
      return contract::ProductPrecision::kTf32;
    case v1::PRODUCT_PRECISION_BFLOAT16:
      return contract::ProductPrecision::kBFloat16;
    default:
      throw ProtocolError(fmt::format("wire: got precision {}, expected 0 to 2", static_cast<int>(precision)));
  }
}

contract::Product read(const v1::Product& product) {
  const contract::ProductPrecision precision = read_precision(product.precision());
  switch (product.kind()) {
    case v1::PRODUCT_KIND_LINEAR:
      return {.kind = ProductKind::kLinear, .precision = precision};
    case v1::PRODUCT_KIND_MATMUL:
      return {.kind = ProductKind::kMatmul, .precision = precision};
    case v1::PRODUCT_KIND_CONV2D:
      return {.kind = ProductKind::kConv2d,
              .stride_h = read_step(product.stride_h(), "stride"),
              .stride_w = read_step(product.stride_w(), "stride"),
              .dilation_h = read_step(product.dilation_h(), "dilation"),
              .dilation_w = read_step(product.dilation_w(), "dilation"),
              .precision = precision};
    default:
      throw ProtocolError(fmt::format("wire: got product {}, expected 1 to 3", static_cast<int>(product.kind())));
  }
}

double read_finite(double value, const char* what) {
  if (!std::isfinite(value)) throw ProtocolError(fmt::format("wire: got a {} that is not finite", what));
  return value;
}

contract::Operation read(const v1::Update& op) {
  return contract::Update{.w = op.w(),
                          .velocity = op.velocity(),
                          .dw = op.dw(),
                          .step = op.step(),
                          .learning_rate = read_finite(op.learning_rate(), "learning rate"),
                          .momentum = read_finite(op.momentum(), "momentum"),
                          .weight_decay = read_finite(op.weight_decay(), "weight decay"),
                          .gradient_scale = read_finite(op.gradient_scale(), "gradient scale")};
}

/// Texts end up in logs and messages.
std::string read_text(const std::string& text, const char* what, size_t most = kMaxTextBytes) {
  if (text.size() > most)
    throw ProtocolError(fmt::format("wire: got a {} of {} bytes, expected at most {}", what, text.size(), most));
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; }))
    throw ProtocolError(fmt::format("wire: got a {} that is not printable ASCII", what));
  return text;
}

/// What must be there.
std::string read_name(const std::string& text, const char* what) {
  if (text.empty()) throw ProtocolError(fmt::format("wire: got an empty {}", what));
  return read_text(text, what, contract::kMaxCollectiveText);
}

Operation read(const v1::JoinGroup& op) {
  if (op.size() < 1 || op.size() > contract::kMaxGroupSize)
    throw ProtocolError(fmt::format("wire: got a group of {}, expected 1 to {}", op.size(), contract::kMaxGroupSize));
  if (op.rank() >= op.size())
    throw ProtocolError(fmt::format("wire: got rank {} in a group of {}", op.rank(), op.size()));
  return contract::JoinGroup{read_name(op.rendezvous(), "rendezvous"), read_name(op.group(), "group name"), op.rank(),
                             op.size()};
}

std::vector<contract::RowPart> read_parts(const v1::WeightGradient& op) {
  const bool may_have = op.product().kind() != v1::PRODUCT_KIND_MATMUL;
  const size_t most = may_have ? contract::kMaxRowParts : 0, count = static_cast<size_t>(op.further_size());
  if (count > most) throw ProtocolError(fmt::format("wire: got {} further parts, expected at most {}", count, most));
  std::vector<contract::RowPart> parts;
  for (const v1::RowPart& part : op.further()) parts.push_back({part.x(), part.dy()});
  return parts;
}

Operation read(const v1::Operation& operation) {
  switch (operation.kind_case()) {
    case v1::Operation::kForward: {
      const v1::Forward& op = operation.forward();
      return contract::Forward{read(op.product()), op.x(), op.w(), element_type(op.reply_type()),
                               read_reply_panels(op.reply_panels())};
    }
    case v1::Operation::kInputGradient: {
      const v1::InputGradient& op = operation.input_gradient();
      const ElementType type = element_type(op.reply_type());
      return contract::InputGradient{read(op.product()),
                                     op.dy(),
                                     op.w(),
                                     read_shape(op.x_shape(), type),
                                     type,
                                     read_reply_panels(op.reply_panels())};
    }
    case v1::Operation::kWeightGradient: {
      const v1::WeightGradient& op = operation.weight_gradient();
      const ElementType type = element_type(op.reply_type());
      return contract::WeightGradient{read(op.product()), op.x(),        op.dy(), read_shape(op.w_shape(), type), type,
                                      op.keep_as(),       read_parts(op)};
    }
    case v1::Operation::kUpdate:
      return read(operation.update());
    case v1::Operation::kFetch:
      return contract::Fetch{operation.fetch().operand()};
    case v1::Operation::kJoinGroup:
      return read(operation.join_group());
    case v1::Operation::kAllReduce:
      return contract::AllReduce{operation.all_reduce().operand()};
    case v1::Operation::KIND_NOT_SET:
      break;
  }
  throw ProtocolError("wire: got an operation without a kind");
}

Welcome read(const v1::Welcome& welcome) {
  return {.protocol = welcome.protocol(),
          .version = read_text(welcome.version(), "version"),
          .device = read_text(welcome.device(), "device"),
          .memory_bytes = welcome.memory_bytes(),
          .collective = read_text(welcome.collective(), "collective address", contract::kMaxCollectiveText)};
}

Free read(const v1::Free& message) {
  if (static_cast<size_t>(message.operands_size()) > kMaxFreed)
    throw ProtocolError(
        fmt::format("wire: got {} operands to free, expected at most {}", message.operands_size(), kMaxFreed));
  return {{message.operands().begin(), message.operands().end()}};
}

template <typename Proto>
Proto parse(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxMessageBytes)
    throw ProtocolError(
        fmt::format("wire: got a message of {} bytes, expected at most {}", bytes.size(), kMaxMessageBytes));
  Proto message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    throw ProtocolError(fmt::format("wire: got {} bytes that are not a message", bytes.size()));
  return message;
}

}  // namespace

std::vector<std::byte> encode(const ClientMessage& message) { return encode_as<v1::ClientMessage>(message); }
std::vector<std::byte> encode(const ServerMessage& message) { return encode_as<v1::ServerMessage>(message); }

ClientMessage decode_client_message(std::span<const std::byte> bytes) {
  const auto message = parse<v1::ClientMessage>(bytes);
  switch (message.kind_case()) {
    case v1::ClientMessage::kHello:
      return Hello{message.hello().protocol(), read_text(message.hello().version(), "version")};
    case v1::ClientMessage::kPut:
      return Put{message.put().operand(), read(message.put().spec()), message.put().offset()};
    case v1::ClientMessage::kChunk:
      return Chunk{message.chunk().bytes()};
    case v1::ClientMessage::kFree:
      return read(message.free());
    case v1::ClientMessage::kSubmit:
      return Submit{message.submit().number(), read(message.submit().operation())};
    case v1::ClientMessage::kRelease:
      return Release{message.release().offset()};
    case v1::ClientMessage::KIND_NOT_SET:
      break;
  }
  throw ProtocolError("wire: got a message without a kind");
}

ServerMessage decode_server_message(std::span<const std::byte> bytes) {
  const auto message = parse<v1::ServerMessage>(bytes);
  switch (message.kind_case()) {
    case v1::ServerMessage::kWelcome:
      return read(message.welcome());
    case v1::ServerMessage::kReply:
      return Reply{message.reply().number(), read(message.reply().spec()), message.reply().offset()};
    case v1::ServerMessage::kChunk:
      return Chunk{message.chunk().bytes()};
    case v1::ServerMessage::kRefusal:
      return Refusal{message.refusal().number(), read_text(message.refusal().reason(), "reason")};
    case v1::ServerMessage::kGoodbye:
      return Goodbye{read_text(message.goodbye().reason(), "reason")};
    case v1::ServerMessage::kFreed:
      return Freed{message.freed().offset()};
    case v1::ServerMessage::KIND_NOT_SET:
      break;
  }
  throw ProtocolError("wire: got a message without a kind");
}

}  // namespace tempo::wire
