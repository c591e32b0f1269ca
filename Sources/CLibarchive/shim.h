/* libarchive: reads the archives that images are imported from. It never writes to disk here. */
#pragma once
#include <archive.h>
#include <archive_entry.h>
