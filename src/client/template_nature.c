// What Go's types of the API say and JSON doesn't, by the names of fields.
#include "client/template_private.h"

static const struct {
    const char *field;
    enum nature nature;
} natures[] = {
    // maps
    { "Labels", NATURE_MAP }, { "Options", NATURE_MAP }, { "Annotations", NATURE_MAP }, { "Sysctls", NATURE_MAP },
    { "Tmpfs", NATURE_MAP }, { "StorageOpt", NATURE_MAP }, { "DriverOpts", NATURE_MAP }, { "Attributes", NATURE_MAP },
    { "Data", NATURE_MAP }, { "Ports", NATURE_MAP_OF_LISTS }, { "PortBindings", NATURE_MAP_OF_LISTS },
    { "Networks", NATURE_MAP_OF_POINTERS }, { "Containers", NATURE_MAP_OF_ANY }, { "ExposedPorts", NATURE_MAP_OF_ANY },
    { "Volumes", NATURE_MAP_OF_ANY }, { "Runtimes", NATURE_MAP_OF_ANY }, { "Status", NATURE_TEXT }, { "Details", NATURE_MAP },
    { "LogOpts", NATURE_MAP }, { "AuxiliaryAddresses", NATURE_MAP },
    // pointers, absent or null when nil
    { "Health", NATURE_POINTER }, { "Healthcheck", NATURE_POINTER }, { "StopTimeout", NATURE_POINTER }, { "Init", NATURE_POINTER },
    { "SizeRw", NATURE_POINTER }, { "SizeRootFs", NATURE_POINTER }, { "MemorySwappiness", NATURE_POINTER },
    { "OomKillDisable", NATURE_POINTER }, { "PidsLimit", NATURE_POINTER }, { "UsageData", NATURE_POINTER },
    { "ClusterVolume", NATURE_POINTER }, { "ImageManifestDescriptor", NATURE_POINTER }, { "Descriptor", NATURE_POINTER },
    { "GraphDriver", NATURE_POINTER }, { "Server", NATURE_POINTER }, { "IPAMConfig", NATURE_POINTER },
    // text that is left out when empty
    { "StopSignal", NATURE_TEXT }, { "Runtime", NATURE_TEXT }, { "Variant", NATURE_TEXT }, { "OsVersion", NATURE_TEXT },
    { "Comment", NATURE_TEXT }, { "Author", NATURE_TEXT }, { "Parent", NATURE_TEXT }, { "Container", NATURE_TEXT },
    { "DockerVersion", NATURE_TEXT }, { "MacAddress", NATURE_TEXT }, { "CreatedAt", NATURE_TEXT }, { "Driver", NATURE_TEXT },
    { "Isolation", NATURE_TEXT }, { "Name", NATURE_TEXT }, { "Error", NATURE_TEXT }, { "Propagation", NATURE_TEXT },
    { "status", NATURE_TEXT }, { "id", NATURE_TEXT }, { "from", NATURE_TEXT }, { "scope", NATURE_TEXT },
    // lists
    { "Shell", NATURE_LIST }, { "OnBuild", NATURE_LIST }, { "Mounts", NATURE_LIST }, { "MaskedPaths", NATURE_LIST },
    { "ReadonlyPaths", NATURE_LIST }, { "Entrypoint", NATURE_LIST }, { "Cmd", NATURE_LIST }, { "DeviceRequests", NATURE_LIST },
    { "Warnings", NATURE_LIST },
    // numbers and flags
    { "VirtualSize", NATURE_NUMBER }, { "MaximumRetryCount", NATURE_NUMBER }, { "NetworkDisabled", NATURE_FLAG },
    { "ArgsEscaped", NATURE_FLAG }, { "Experimental", NATURE_FLAG },
};

enum nature nature_of(const char *field)
{
    for (size_t i = 0; i < ARRAY_LEN(natures); i++)
        if (strcasecmp(natures[i].field, field) == 0)
            return natures[i].nature;
    return NATURE_UNKNOWN;
}
