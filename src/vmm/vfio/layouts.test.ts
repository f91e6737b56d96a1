// VFIO's numbers and structures against the kernel's own header, and what is read of structures that a kernel might fill.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cValues } from '../testing/c-values.ts';
import * as ioctls from './ioctls.ts';
import * as L from './layouts.ts';

const HEADERS = ['linux/vfio.h', 'stddef.h'];

test('ioctl numbers, flags and indexes are those of linux/vfio.h', () => {
  const names = Object.keys(ioctls);
  const values = cValues(HEADERS, Object.fromEntries(names.map((name) => [name, name])));
  for (const name of names) assert.equal((ioctls as Record<string, number>)[name], values[name], name);
});

test('structures have the sizes and offsets of linux/vfio.h', () => {
  const values = cValues(HEADERS, {
    DEVICE_INFO: 'offsetof(struct vfio_device_info, cap_offset) + 4', REGION_INFO: 'sizeof(struct vfio_region_info)', IRQ_INFO: 'sizeof(struct vfio_irq_info)',
    GROUP_STATUS: 'sizeof(struct vfio_group_status)', IOMMU_INFO: 'offsetof(struct vfio_iommu_type1_info, cap_offset) + 4', DMA_MAP: 'sizeof(struct vfio_iommu_type1_dma_map)',
    DMA_UNMAP: 'offsetof(struct vfio_iommu_type1_dma_unmap, data)', IRQ_SET: 'offsetof(struct vfio_irq_set, data)', HOT_RESET_INFO: 'offsetof(struct vfio_pci_hot_reset_info, devices)',
    DEPENDENT_DEVICE: 'sizeof(struct vfio_pci_dependent_device)', HOT_RESET: 'offsetof(struct vfio_pci_hot_reset, group_fds)',
    regionIndex: 'offsetof(struct vfio_region_info, index)', regionCaps: 'offsetof(struct vfio_region_info, cap_offset)', regionSize: 'offsetof(struct vfio_region_info, size)', regionOffset: 'offsetof(struct vfio_region_info, offset)',
    areas: 'offsetof(struct vfio_region_info_cap_sparse_mmap, nr_areas)', area: 'offsetof(struct vfio_region_info_cap_sparse_mmap, areas)', areaBytes: 'sizeof(struct vfio_region_sparse_mmap_area)',
    irqIndex: 'offsetof(struct vfio_irq_info, index)', irqCount: 'offsetof(struct vfio_irq_info, count)',
    setIndex: 'offsetof(struct vfio_irq_set, index)', setStart: 'offsetof(struct vfio_irq_set, start)', setCount: 'offsetof(struct vfio_irq_set, count)',
    iommuCaps: 'offsetof(struct vfio_iommu_type1_info, cap_offset)', ranges: 'offsetof(struct vfio_iommu_type1_info_cap_iova_range, nr_iovas)', range: 'offsetof(struct vfio_iommu_type1_info_cap_iova_range, iova_ranges)',
    mapVaddr: 'offsetof(struct vfio_iommu_type1_dma_map, vaddr)', mapIova: 'offsetof(struct vfio_iommu_type1_dma_map, iova)', mapSize: 'offsetof(struct vfio_iommu_type1_dma_map, size)',
    unmapIova: 'offsetof(struct vfio_iommu_type1_dma_unmap, iova)', unmapSize: 'offsetof(struct vfio_iommu_type1_dma_unmap, size)',
    segment: 'offsetof(struct vfio_pci_dependent_device, segment)', bus: 'offsetof(struct vfio_pci_dependent_device, bus)', devfn: 'offsetof(struct vfio_pci_dependent_device, devfn)',
    next: 'offsetof(struct vfio_info_cap_header, next)',
  });
  assert.deepEqual(values, {
    DEVICE_INFO: L.DEVICE_INFO, REGION_INFO: L.REGION_INFO, IRQ_INFO: L.IRQ_INFO, GROUP_STATUS: L.GROUP_STATUS, IOMMU_INFO: L.IOMMU_INFO, DMA_MAP: L.DMA_MAP,
    DMA_UNMAP: L.DMA_UNMAP, IRQ_SET: L.IRQ_SET, HOT_RESET_INFO: L.HOT_RESET_INFO, DEPENDENT_DEVICE: L.DEPENDENT_DEVICE, HOT_RESET: L.HOT_RESET,
    regionIndex: 8, regionCaps: 12, regionSize: 16, regionOffset: 24, areas: 8, area: 16, areaBytes: 16, irqIndex: 8, irqCount: 12, setIndex: 8, setStart: 12, setCount: 16,
    iommuCaps: 16, ranges: 8, range: 16, mapVaddr: 8, mapIova: 16, mapSize: 24, unmapIova: 8, unmapSize: 16, segment: 4, bus: 6, devfn: 7, next: 4,
  });
});

/** A region's answer with a chain of capabilities: sparse areas, then "MSI-X mappable". */
function regionAnswer(areas: readonly { offset: number; size: number }[]): Uint8Array {
  const sparse = 32;
  const mappable = sparse + 16 + areas.length * 16;
  const bytes = L.regionRequest(2, mappable + 8);
  const into = new DataView(bytes.buffer);
  into.setUint32(4, ioctls.VFIO_REGION_INFO_FLAG_CAPS | ioctls.VFIO_REGION_INFO_FLAG_MMAP, true);
  into.setUint32(12, sparse, true);
  into.setBigUint64(16, 0x10000n, true);
  into.setBigUint64(24, 2n << 40n, true);
  into.setUint16(sparse, ioctls.VFIO_REGION_INFO_CAP_SPARSE_MMAP, true);
  into.setUint32(sparse + 4, mappable, true);
  into.setUint32(sparse + 8, areas.length, true);
  areas.forEach(({ offset, size }, index) => {
    into.setBigUint64(sparse + 16 + index * 16, BigInt(offset), true);
    into.setBigUint64(sparse + 24 + index * 16, BigInt(size), true);
  });
  into.setUint16(mappable, ioctls.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, true);
  return bytes;
}

test("a region's capabilities are read", () => {
  const sparse = [{ offset: 0, size: 0x2000 }, { offset: 0x3000, size: 0x1000 }];
  assert.deepEqual(L.regionInfo(regionAnswer(sparse)), { index: 2, flags: 12, size: 0x10000, offset: 2 ** 41, msixMappable: true, sparse });
});

test('no answer of a kernel makes the readers throw or run for ever', () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 32, maxLength: 200 }), (bytes) => {
    L.regionInfo(bytes);
    L.iovaRanges(bytes);
    L.dependentDevices(bytes);
  }));
});

test('dependent devices are named as Linux names them', () => {
  const bytes = L.sized(L.HOT_RESET_INFO + 8);
  const into = new DataView(bytes.buffer);
  into.setUint32(8, 1, true);
  into.setUint32(12, 7, true);
  into.setUint16(16, 0x10, true);
  into.setUint8(18, 0xa3);
  into.setUint8(19, (0x1f << 3) | 5);
  assert.deepEqual(L.dependentDevices(bytes), [{ group: 7, address: '0010:a3:1f.5' }]);
});
