/// `blind` and `unblind` of typed arrays in one call, as the tests of this folder want them.
#pragma once

#include <type_traits>

#include "obfuscation/blind.h"

namespace tempo::obfuscation {

template <typename T>
constexpr ElementType kElementTypeOf = std::is_same_v<T, float> ? ElementType::kFloat32 : ElementType::kFloat64;

struct DecoyImages {
  int64_t images = 0;
  const void* pixels = nullptr;
};

template <typename T>
void blind(const T* x, const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, std::byte* out,
           ThreadPool& threads, const Taps& taps = {}, DecoyImages decoys = {}) {
  blind({geometry, rows, channels, wire, decoys.images}, {{kElementTypeOf<T>, x}, decoys.pixels}, out, threads, taps);
}

template <typename T>
void unblind(const std::byte* in, ElementType wire, const TileGeometry& geometry, KeyUse rows, KeyUse channels, T* x,
             ThreadPool& threads, const Taps& taps = {}, int64_t decoy_images = 0) {
  unblind({geometry, rows, channels, wire, decoy_images}, in, {kElementTypeOf<T>, x}, threads, taps);
}

/// A blinding that only says what `supports` asks for.
inline Blinding under(const TileGeometry& geometry, const Key& rows, const Key& channels) {
  return {geometry, {&rows, Form::kInverse}, {&channels, Form::kInverse}};
}

}  // namespace tempo::obfuscation
