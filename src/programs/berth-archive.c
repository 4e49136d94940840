// berth-archive: reads and writes the files of one container for the daemon, jailed in that container's tree (archive/worker.h).
#include "archive/worker.h"

int main(int argc, char **argv)
{
    return archive_worker_main(argc, argv);
}
