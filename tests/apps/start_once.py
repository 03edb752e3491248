"""What Tempo's programs set before they start anew (apps/common/program.cpp): where it is set already they start once. Loading
LibTorch takes most of a short command's time. tests/apps/cli_test.py has a run without."""

START_ONCE = {"OMP_WAIT_POLICY": "passive",
              "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:"
                                "glibc.malloc.top_pad=67108864"}
