// From the task document and its descriptors to what the wall needs: the same for the shim and for a guest's PID 1.
//
// The document names descriptors by index; here they are a list. Who got none with a document (a guest) puts in what it
// opened itself, and its indices into the document.
#ifndef SANDBOX_DOCUMENT_H
#define SANDBOX_DOCUMENT_H

#include "sandbox/sandbox.h"
#include "task/task.h"

struct fd_list {
    int *fds;
    size_t len;
};
// The descriptor of that index; -1 with invalid_argument when there is none. Stays the list's, or is taken out of it.
int fd_list_get(const struct fd_list *list, int64_t index, const char *what, struct err *err);
int fd_list_take(struct fd_list *list, int64_t index, const char *what, struct err *err);
void fd_list_add(struct fd_list *list, int fd); // taken; its index is the length before
void fd_list_done(struct fd_list *list);

// Fills everything but netns_fd, cgroup and init_fd. Writes the document's files below `container_fd`/files; the
// descriptors it opens for them are appended to *opened (malloc'ed, closed by the caller after sandbox_create()).
int rootfs_spec(const struct task_document *document, const struct fd_list *fds, int container_fd, struct arena *arena,
                struct fd_list *opened, struct sandbox_spec *out, struct err *err);

#endif
