// rooms: transfer distribution image layer store build spec kernel json base | libarchive gnutls nettle libisal libzstd jansson
// An image archive of any form, from the stream to the staging folder.
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/file.h"
#include "transfer/transfer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[] = "/tmp/berth-fuzz-XXXXXX";
    if (!mkdtemp(path))
        abort();
    int staging = file_open_dir(AT_FDCWD, path, NULL);
    int input = memfd_create("archive", MFD_CLOEXEC);
    FILE *report = fopen("/dev/null", "we");
    if (staging < 0 || fd_write_full(input, data, size, NULL) < 0 || !report)
        abort();
    lseek(input, 0, SEEK_SET);
    transfer_load(input, staging, 0, report, NULL);
    fclose(report);
    fd_close(input);
    fd_close(staging);
    if (file_remove_tree(AT_FDCWD, path, NULL) < 0)
        abort();
    return 0;
}
