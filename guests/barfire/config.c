// Configuration space, by both ways: the ports, whose address and data one processor at a time may use, and ECAM, where every access is whole.
#include "fire.h"

enum { MCH_PCIEXBAR = 0x60 };

static uint64_t ecam;
static volatile uint32_t ports;

void find_ecam(void) {
  ecam = (pci_read(0, MCH_PCIEXBAR) & 0xfc000000u) | (uint64_t)pci_read(0, MCH_PCIEXBAR + 4) << 32;
  map_physical(ecam, 0x100000);
}

/** A test device counts the writes that it sees, and so do we those that are made. */
static void count(unsigned slot) {
  for (uint32_t i = 0; i < function_count; i++) if (functions[i].slot == slot) add(&functions[i].config_writes, 1);
}

static uint64_t at(unsigned slot, unsigned reg) { return ecam + (slot << 15) + reg; }

uint32_t config_read(unsigned slot, unsigned reg, int by_ports) {
  if (!by_ports) return AT(uint32_t, at(slot, reg));
  take(&ports);
  uint32_t value = pci_read(slot, reg);
  let_go(&ports);
  return value;
}

void config_write(unsigned slot, unsigned reg, uint32_t value, int by_ports) {
  count(slot);
  if (!by_ports) {
    AT(uint32_t, at(slot, reg)) = value;
    return;
  }
  take(&ports);
  pci_write(slot, reg, value);
  let_go(&ports);
}

void config_write16(unsigned slot, unsigned reg, uint16_t value, int by_ports) {
  count(slot);
  if (!by_ports) {
    AT(uint16_t, at(slot, reg)) = value;
    return;
  }
  take(&ports);
  out32(0xcf8, 0x80000000u | (slot << 11) | (reg & 0xfc));
  out16((uint16_t)(0xcfc + (reg & 2)), value);
  let_go(&ports);
}
