package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// hugePages has a folder for each size of huge pages that the kernel knows: hugepages-2048kB.
const hugePages = "/sys/kernel/mm/hugepages"

// HugePages are the bytes that the node has in huge pages of each size that its kernel knows, used or not, by the names of the
// resources. It may have none of a size, and that may change while it runs.
func HugePages() (v1.ResourceList, error) { return hugePagesIn(hugePages) }

func hugePagesIn(dir string) (v1.ResourceList, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without them
	}
	if err != nil {
		return nil, fmt.Errorf("read huge pages: %w", err)
	}
	out := v1.ResourceList{}
	for _, e := range entries {
		text, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		size, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil {
			continue
		}
		number, err := readNumber(filepath.Join(dir, e.Name(), "nr_hugepages"))
		if err != nil {
			return nil, fmt.Errorf("read huge pages: %w", err)
		}
		name := v1.ResourceName(v1.ResourceHugePagesPrefix + resource.NewQuantity(size<<10, resource.BinarySI).String())
		out[name] = *resource.NewQuantity(int64(number)*(size<<10), resource.BinarySI)
	}
	return out, nil
}

// pageSizes are the sizes in bytes of the huge pages that the kernel can limit, none where it has no controller for them.
func (t *Tree) pageSizes() ([]int64, error) {
	limits := slices.Contains(t.hierarchies, filepath.Join(t.mount, "hugetlb"))
	if t.cfg.Unified {
		limits = slices.Contains(t.controllers, "hugetlb")
	}
	if !limits {
		return nil, nil
	}
	pages, err := HugePages()
	var sizes []int64
	for name := range pages {
		sizes = append(sizes, pageSize(name))
	}
	slices.Sort(sizes)
	return sizes, err
}

// pageSize is the size in bytes that a resource has in its name, 0 where it is not about huge pages.
func pageSize(name v1.ResourceName) int64 {
	text, ok := strings.CutPrefix(string(name), v1.ResourceHugePagesPrefix)
	size, err := resource.ParseQuantity(text)
	if !ok || err != nil {
		return 0
	}
	return size.Value()
}

// hugepages are the limits of all sizes that the kernel can limit: of what is not asked for there is nothing, as the kubelet
// has it. The OCI spec writes 2Mi as 2MB.
func hugepages(limits v1.ResourceList, cfg Config) []specs.LinuxHugepageLimit {
	var out []specs.LinuxHugepageLimit
	for _, size := range cfg.PageSizes {
		limit := specs.LinuxHugepageLimit{Pagesize: strings.TrimSuffix(resource.NewQuantity(size, resource.BinarySI).String(), "i") + "B"}
		for name, quantity := range limits {
			if pageSize(name) == size {
				limit.Limit += uint64(max(quantity.Value(), 0))
			}
		}
		out = append(out, limit)
	}
	return out
}
