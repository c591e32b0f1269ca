// MachineSpec
