# The two commands of the README, and the pieces they are made of. Each target does the set-up it needs, once.
BUILD := build/release
JOBS ?= $(shell nproc)
# Settings that slow OpenBLAS down where a shell exports them.
unexport OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

.PHONY: all demo man test check format setup build clean

all: setup $(BUILD)/build.ninja
	@echo "Building the programs. The first build takes about ten minutes on two cores."
	@cmake --build $(BUILD) -j $(JOBS) --target tempo tempo-worker tempo-audit

setup:
	@tools/setup.sh

$(BUILD)/build.ninja: CMakePresets.json
	@cmake --preset release

build: setup $(BUILD)/build.ninja
	@cmake --build $(BUILD) -j $(JOBS)

demo: setup $(BUILD)/build.ninja
	@echo "Building tempo. The first build takes about six minutes on two cores."
	@cmake --build $(BUILD) -j $(JOBS) --target tempo
	@tools/demo.sh $(BUILD)/apps/tempo $(BUILD)/demo

# Man pages of every command, to be put where `man` looks: $(BUILD)/man.
man: build
	@tools/man_pages.py $(BUILD)/apps/tempo $(BUILD)/man

test: build
	@ctest --test-dir $(BUILD) --output-on-failure

check: build
	@tools/check_format.sh
	@tools/check_layering.py
	@tools/check_deploy.py
	@tools/check_observing.py
	@tools/flags_page.py $(BUILD)/apps/tempo --check docs/flags.md
	@tools/check_documents.py $(BUILD)
	@cmake --build $(BUILD) -j $(JOBS) --target public_headers
	@tools/check_symbols.sh $(BUILD)

format:
	@git ls-files '*.h' '*.cpp' | xargs clang-format-14 -i

clean:
	rm -rf build
