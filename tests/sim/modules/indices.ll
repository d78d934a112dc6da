@_Z4half.MTL_FC_INIT_7_b = internal addrspace(2) externally_initialized constant i8 undef, section "air.fc_initializer", align 1
define void @indices(ptr addrspace(1) %0, ptr addrspace(3) %1, i16 %2, <2 x i16> %3, i32 %4) {
  %6 = load i8, ptr addrspace(2) @_Z4half.MTL_FC_INIT_7_b, align 1
  %7 = sext i8 %6 to i32
  %8 = zext i16 %2 to i32
  %9 = extractelement <2 x i16> %3, i64 1
  %10 = zext i16 %9 to i32
  store i32 %4, ptr addrspace(3) %1, align 4
  store i32 %8, ptr addrspace(1) %0, align 4
  %11 = getelementptr i32, ptr addrspace(1) %0, i64 1
  store i32 %10, ptr addrspace(1) %11, align 4
  %12 = getelementptr i32, ptr addrspace(1) %0, i64 2
  store i32 %7, ptr addrspace(1) %12, align 4
  ret void
}
!air.kernel = !{!0}
!air.function_constants = !{!9}
!0 = !{ptr @indices, !1, !2}
!1 = !{}
!2 = !{!3, !4, !5, !6, !7}
!3 = !{i32 0, !"air.buffer", !"air.location_index", i32 0, i32 1, !"air.read_write", !"air.address_space", i32 1, !"air.arg_type_size", i32 4, !"air.arg_type_align_size", i32 4, !"air.arg_type_name", !"uint", !"air.arg_name", !"y"}
!4 = !{i32 1, !"air.buffer", !"air.location_index", i32 1, i32 1, !"air.read_write", !"air.address_space", i32 3, !"air.arg_type_size", i32 4, !"air.arg_type_align_size", i32 4, !"air.arg_type_name", !"int", !"air.arg_name", !"shared"}
!5 = !{i32 2, !"air.thread_index_in_simdgroup", !"air.arg_type_name", !"ushort", !"air.arg_name", !"lane"}
!6 = !{i32 3, !"air.threadgroup_position_in_grid", !"air.arg_type_name", !"ushort2", !"air.arg_name", !"group"}
!7 = !{i32 4, !"air.threads_per_grid", !"air.arg_type_name", !"uint", !"air.arg_name", !"all"}
!9 = !{ptr addrspace(2) @_Z4half.MTL_FC_INIT_7_b, !"bool", !"half", i32 7, i1 true}
