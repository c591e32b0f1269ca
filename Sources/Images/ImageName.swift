import MachineSpec

extension ImageName {
  /// What the store calls folders that are no images yet, or no more; no image can be called so.
  static let partial = ".partial"
  static let removing = ".removing"
}
