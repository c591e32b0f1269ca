import Images
import Linux
import MachineSpec
import SystemPackage

extension ImageStore {
  /// Imports a tar archive as an image.
  ///
  /// - Parameters:
  ///   - archive: the archive, which may be a pipe.
  ///   - source: what the archive is called in the record and in errors.
  ///   - name: the image's name.
  ///   - options: what is allowed.
  ///   - progress: called after each entry and each block; throwing ends the import.
  /// - Returns: the record, and what was left out.
  /// - Throws: `Failure`; nothing of the image is left then.
  public func importTar(
    _ archive: FileDescriptor, source: String, as name: ImageName, options: TarImport.Options = .init(),
    progress: @escaping (TarImport.Summary) throws -> Void
  ) throws -> (record: ImageRecord, summary: TarImport.Summary) {
    var summary = TarImport.Summary()
    let record = try importImage(name, source: source) { layer in
      var importer = TarImport(options: options)
      importer.progress = progress
      summary = try importer.run(archive, path: source, into: layer)
      return Progress(entries: summary.entries, bytes: summary.bytes)
    }
    return (record, summary)
  }
}
